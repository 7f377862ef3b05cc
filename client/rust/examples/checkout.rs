//! Takes a seat from the cluster of `leasehold dev`, borrows it, and gives it back.

use std::time::Duration;

use leasehold_client::{FileStore, LicenseClient};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = LicenseClient::builder()
        .endpoints(std::env::var("LICENSE_SERVERS")?.split(','))
        .credentials(std::env::var("LICENSE_ID")?, std::env::var("LICENSE_SECRET")?)
        .tls_roots_pem(&std::fs::read("leasehold-dev/ca.pem")?)
        .offline_store(FileStore::new("leasehold-dev/alice")) // what a restart finds again
        .build()?;

    let lease = client.checkout("davinci-configurator-se", "alice@bmw.com").await?;
    println!("{}: {:?}", lease.id(), lease.verdict()); // renews itself in the background

    lease.borrow(Duration::from_secs(3_600)).await?; // good for an hour without any server
    println!("borrowed: {:?}", lease.verdict());

    lease.release().await?;
    println!("given back");
    Ok(())
}
