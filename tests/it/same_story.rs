//! One story told through each protocol: parties come, confirm and leave, and whoever listens to
//! the seats cannot tell which protocol it was.
//!
//! The stories follow from a fixed seed. All protocols take their seats from one package, so after
//! every step the seats out are compared with the number of parties inside.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use leasehold_tests::api::{Answer, Api, Reply};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::SAMPLE_PACKAGE;
use leasehold_tests::wait::eventually;
use protocol::classic::signature::{SignedParts, sign};
use reqwest::Method;
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};

const VENDOR_SECRET: &str = "techvendor_secret_of_the_story";
/// Parties of a story: more than the package has seats, so that some are refused.
const PARTIES: u64 = 24;
const STEPS: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Come(u64),
    Confirm(u64),
    Leave(u64),
}

/// The steps that follow from a seed (SplitMix64).
fn story(mut seed: u64) -> Vec<Step> {
    let mut draw = move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut steps: Vec<Step> = (0..PARTIES).map(Step::Come).collect();
    steps.extend((0..STEPS).map(|_| {
        let party = draw() % PARTIES;
        match draw() % 4 {
            0 | 1 => Step::Come(party),
            2 => Step::Confirm(party),
            _ => Step::Leave(party),
        }
    }));
    steps
}

/// What a party has to show for its seat: two texts that the protocol knows what to do with.
type Shown = (String, String);

/// One protocol's way to tell a story.
#[derive(Debug, Clone, Copy)]
enum Teller {
    Cloud,
    Device,
    Deployment,
    Evaluation,
    Classic,
}

const TELLERS: [Teller; 5] =
    [Teller::Cloud, Teller::Device, Teller::Deployment, Teller::Evaluation, Teller::Classic];

struct Stage {
    api: Api,
    token: String,
    /// The license key and the client of the protocol told through.
    key: String,
    client: String,
}

impl Stage {
    async fn ask(&self, path: &str, bearer: &str, body: &Value) -> Result<Answer> {
        self.call(Method::POST, path, bearer, Some(body)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        bearer: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        eventually(&format!("{path} is answered"), || async {
            let mut request = self.api.request(1, method.clone(), path).ok()?;
            if !bearer.is_empty() {
                request = request.bearer_auth(bearer);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match self.api.send(request).await {
                Reply::Answer(answer) if answer.status != 503 => Some(answer),
                _ => None,
            }
        })
        .await
    }

    async fn set_up(&mut self, teller: Teller) -> Result<()> {
        let admin = self.api.dev.admin_token.clone();
        let protocol = match teller {
            Teller::Cloud => return Ok(()),
            Teller::Classic => {
                let vendor = json!({ "vendor_id": "techvendor", "secret": VENDOR_SECRET });
                self.ask("/admin/classic/vendors", &admin, &vendor).await?.expect(200)?;
                return Ok(());
            }
            Teller::Device => "device",
            Teller::Deployment => "deployment",
            Teller::Evaluation => "evaluation",
        };
        let mut request = json!({
            "protocol": protocol, "package_id": SAMPLE_PACKAGE, "plan": { "max_activations": 100 },
        });
        if protocol == "device" {
            request["email"] = json!("owner@example.com");
        }
        let issued = self.ask("/admin/licenses", &admin, &request).await?.expect(201)?;
        self.key = issued.text("license_key")?.to_owned();
        let client = issued.body["license"]["client_id"].as_str();
        self.client = client.unwrap_or_default().to_owned();
        Ok(())
    }

    fn device(&self, party: u64) -> Value {
        json!({
            "email": "owner@example.com", "client_id": self.client, "license_key": self.key,
            "device_fingerprint": format!("{party:064x}"),
        })
    }

    fn machines(&self, party: u64) -> Value {
        json!({ "license_key": self.key, "cluster_id": format!("bzzz-cluster-{party:08x}-host") })
    }

    fn host(&self, party: u64) -> Value {
        json!({
            "version": "2.0.0", "type": "evaluation", "timestamp": 1.5, "activation_code": self.key,
            "hostname_hash": format!("{party:016x}"), "org_id": "org", "project_id": "project",
        })
    }

    /// `None`: there was no seat.
    async fn come(&self, teller: Teller, party: u64) -> Result<Option<Shown>> {
        let (answer, shown): (Answer, fn(&Answer) -> Result<Shown>) = match teller {
            Teller::Cloud => {
                let body = json!({
                    "product_id": self.api.dev.app.product_id, "user": format!("user-{party}"),
                    "hostname": "story",
                });
                let path = "/api/v1/licenses/checkout";
                (self.ask(path, &self.token, &body).await?, |answer| {
                    let renewal = answer.text("renewal_token")?.to_owned();
                    Ok((answer.text("lease_id")?.to_owned(), renewal))
                })
            }
            Teller::Device => {
                (self.ask("/api/activate", "", &self.device(party)).await?, |_| Ok(none_shown()))
            }
            Teller::Deployment => {
                let body = self.machines(party);
                (self.ask("/v1/license/activate", "", &body).await?, |answer| {
                    Ok((answer.text("access_token")?.to_owned(), String::new()))
                })
            }
            Teller::Evaluation => {
                (self.ask("/v1/activate", "", &self.host(party)).await?, |answer| {
                    Ok((answer.text("activation_id")?.to_owned(), String::new()))
                })
            }
            Teller::Classic => (self.borrow_classic(party).await?, |answer| {
                Ok((answer.text("id")?.to_owned(), String::new()))
            }),
        };
        match answer.status {
            200 if answer.body["ok"] == false => {
                ensure!(answer.body["reason"] == "no_seat", "{answer:?}");
                Ok(None)
            }
            200 => shown(&answer).map(Some),
            409 => Ok(None),
            _ => bail!("{teller:?}: {answer:?}"),
        }
    }

    async fn borrow_classic(&self, party: u64) -> Result<Answer> {
        let tool = &self.api.dev.app.product_id;
        let user = format!("user-{party}");
        let now = (RealClock::new().wall_ms() / 1_000).to_string();
        let parts = SignedParts { tool, user: &user, timestamp: &now, api_key: None };
        let request = self
            .api
            .request(1, Method::POST, "/licenses/borrow")?
            .header("X-Vendor-ID", "techvendor")
            .header("X-Timestamp", &now)
            .header("X-Signature", sign(VENDOR_SECRET.as_bytes(), &parts))
            .json(&json!({ "tool": tool, "user": user }));
        self.api.answer(request).await
    }

    /// Confirms a seat that is held; gives what is to be shown next.
    async fn confirm(&self, teller: Teller, party: u64, shown: Shown) -> Result<Shown> {
        match teller {
            Teller::Cloud => {
                let path = format!("/api/v1/licenses/{}/heartbeat", shown.0);
                let body = json!({ "renewal_token": shown.1, "still_active": true });
                let renewed = self.call(Method::PUT, &path, &self.token, Some(&body)).await?;
                Ok((shown.0, renewed.expect(200)?.text("renewal_token")?.to_owned()))
            }
            Teller::Device => {
                self.ask("/api/verify", "", &self.device(party)).await?.expect(200)?;
                Ok(shown)
            }
            Teller::Deployment => {
                let path = "/v1/license/heartbeat";
                self.ask(path, &shown.0, &self.machines(party)).await?.expect(200)?;
                Ok(shown)
            }
            Teller::Evaluation => {
                let body = json!({
                    "activation_id": shown.0, "hostname_hash": format!("{party:016x}"),
                    "org_id": "org", "project_id": "project", "timestamp": 2.5,
                });
                let valid = self.ask("/v1/validate", "", &body).await?.expect(200)?;
                ensure!(valid.body["ok"] == true, "{valid:?}");
                Ok(shown)
            }
            // This face never renews.
            Teller::Classic => Ok(shown),
        }
    }

    /// Leaves; where a protocol has no word for it, the operator removes the activation.
    async fn leave(&self, teller: Teller, party: u64, shown: Shown) -> Result<()> {
        match teller {
            Teller::Cloud => {
                let path = format!("/api/v1/licenses/{}/return", shown.0);
                let body = json!({ "lease_id": shown.0 });
                self.ask(&path, &self.token, &body).await?.expect(200)?;
            }
            Teller::Device => self.remove(&format!("{party:064x}")).await?,
            Teller::Evaluation => {
                let path = format!("/admin/activations/{}", uuid_of(&shown.0)?);
                let admin = &self.api.dev.admin_token;
                self.call(Method::DELETE, &path, admin, None).await?.expect(200)?;
            }
            Teller::Deployment => {
                let path = "/v1/license/deactivate";
                self.ask(path, &shown.0, &self.machines(party)).await?.expect(200)?;
            }
            Teller::Classic => {
                let body = json!({ "id": shown.0 });
                self.ask("/licenses/return", "", &body).await?.expect(200)?;
            }
        }
        Ok(())
    }

    async fn remove(&self, holder: &str) -> Result<()> {
        let admin = &self.api.dev.admin_token;
        let path = "/admin/activations?protocol=device&limit=1000";
        let listed = self.call(Method::GET, path, admin, None).await?.expect(200)?;
        let rows = listed.body["activations"].as_array().context("no list")?;
        let row = rows.iter().find(|row| row["holder"] == holder).context("no such device")?;
        let id = row["activation_id"].as_str().context("no id")?;
        let path = format!("/admin/activations/{id}");
        self.call(Method::DELETE, &path, admin, None).await?.expect(200)?;
        Ok(())
    }

    async fn seats_out(&self) -> Result<usize> {
        let path = format!("/admin/packages/{SAMPLE_PACKAGE}");
        let shown = self.call(Method::GET, &path, &self.api.dev.admin_token, None).await?;
        let seats = &shown.expect(200)?.body["seats"];
        let out = seats["commit_in_use"].as_u64().zip(seats["overage_in_use"].as_u64());
        let (commit, overage) = out.context("no seats are shown")?;
        Ok(usize::try_from(commit + overage)?)
    }

    /// Tells the story and gives the seats that were out after each step.
    async fn tell(&self, teller: Teller, steps: &[Step]) -> Result<Vec<usize>> {
        let mut inside: BTreeMap<u64, Shown> = BTreeMap::new();
        let mut seats = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Step::Come(party) if !inside.contains_key(&party) => {
                    if let Some(shown) = self.come(teller, party).await? {
                        inside.insert(party, shown);
                    }
                }
                Step::Come(party) | Step::Confirm(party) => {
                    if let Some(shown) = inside.remove(&party) {
                        inside.insert(party, self.confirm(teller, party, shown).await?);
                    }
                }
                Step::Leave(party) => {
                    if let Some(shown) = inside.remove(&party) {
                        self.leave(teller, party, shown).await?;
                    }
                }
            }
            let out = self.seats_out().await?;
            ensure!(out == inside.len(), "{teller:?}, step {number} {step:?}: {out} seats out");
            seats.push(out);
        }
        for (party, shown) in inside {
            self.leave(teller, party, shown).await?;
        }
        ensure!(self.seats_out().await? == 0, "{teller:?}: a seat stayed out");
        Ok(seats)
    }
}

fn none_shown() -> Shown {
    (String::new(), String::new())
}

/// The admin API's name of `act-<32 hex digits>`.
fn uuid_of(activation_id: &str) -> Result<String> {
    let hex = activation_id.strip_prefix("act-").context("not an activation id")?;
    ensure!(hex.len() == 32, "{activation_id}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_story_leaves_the_same_seats_taken_whoever_tells_it() -> Result<()> {
    let cluster = Cluster::start_with(3, &["--classic"]).await?;
    let api = cluster.api()?;
    let token = api.token(1).await?;
    let mut stage = Stage { api, token, key: String::new(), client: String::new() };
    for seed in [1, 2] {
        let steps = story(seed);
        let mut told: Option<Vec<usize>> = None;
        for teller in TELLERS {
            stage.set_up(teller).await?;
            let seats = stage.tell(teller, &steps).await?;
            ensure!(seats.contains(&20), "{teller:?}: nobody was refused");
            if let Some(first) = &told {
                ensure!(*first == seats, "{teller:?} leaves {seats:?}, not {first:?}");
            }
            told.get_or_insert(seats);
        }
    }
    Ok(())
}
