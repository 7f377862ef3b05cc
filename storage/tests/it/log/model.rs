//! Random histories against the naive model, with restarts in between.

use proptest::prelude::*;
use storage::testing::{Loss, MemoryDisk};

use super::{Call, Driver};

#[derive(Debug, Clone)]
enum Event {
    Call(Call),
    CleanRestart,
    ProcessCrash,
    PowerCut(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = prop_oneof![8 => 0_usize..200, 3 => 400_usize..1600, 1 => 6000_usize..12000];
    let append = (1_u64..6, bytes).prop_map(|(entries, bytes)| Call::Append { entries, bytes });
    let call = prop_oneof![
        10 => append,
        2 => Just(Call::NewTerm),
        2 => (0_u64..1000).prop_map(Call::Vote),
        3 => Just(Call::Committed),
        2 => (0_u64..5).prop_map(Call::TruncateLast),
        1 => Just(Call::TruncateAll),
        3 => (1_u64..12).prop_map(Call::Purge),
        1 => (0_u64..4).prop_map(Call::PurgeBeyond),
        1 => Just(Call::Mark),
        8 => Just(Call::Step),
    ];
    prop_oneof![
        30 => call.prop_map(Event::Call),
        1 => Just(Event::CleanRestart),
        1 => Just(Event::ProcessCrash),
        1 => any::<u64>().prop_map(Event::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_is_what_the_model_says(events in prop::collection::vec(event(), 1..120)) {
        let disk = MemoryDisk::new();
        let mut driver = Driver::new(&disk).unwrap();
        for event in &events {
            match event {
                Event::Call(call) => driver.call(call),
                Event::CleanRestart => {
                    let expected = driver.model();
                    driver.close();
                    driver.check_answered("a clean stop");
                    disk.power_cut(Loss::Everything);
                    let restart = driver.check_recovers("a clean stop");
                    prop_assert_eq!(&restart.model, &expected);
                    driver.resume(restart);
                }
                Event::ProcessCrash => {
                    disk.process_crash();
                    let restart = driver.check_opens(&disk, "a process crash");
                    driver.resume(restart);
                }
                Event::PowerCut(seed) => {
                    disk.power_cut(Loss::Random(*seed));
                    let restart = driver.check_recovers("a power cut");
                    driver.resume(restart);
                }
            }
            prop_assert_eq!(&super::Model::of(&driver.log).entries, &driver.model().entries);
        }
    }
}
