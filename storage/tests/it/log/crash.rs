//! Stops the log at every operation on the disk, and at every operation of the recovery after it.

use std::collections::BTreeMap;

use storage::testing::{Fault, FaultKind, Loss, MemoryDisk, OperationKind};

use super::{Call, Driver, Model, open};

/// Fault points of the script and of its start and end. A change that visits fewer tests less:
/// raise the number when the script grows, and say why when it falls.
const FAULT_POINTS_AT_LEAST: u64 = 243;

/// Appends, votes, truncations, purges and rolls, alone and in groups, small and over a segment.
fn script() -> Vec<Call> {
    let mut script = vec![
        Call::Vote(1),
        Call::Step,
        Call::Append { entries: 1, bytes: 0 },
        Call::Step,
        Call::Append { entries: 3, bytes: 40 },
        Call::Committed,
        Call::Append { entries: 2, bytes: 900 },
        Call::Vote(2),
        Call::Step,
        // Truncated while it waits, and written again under another term.
        Call::Append { entries: 2, bytes: 100 },
        Call::TruncateLast(3),
        Call::NewTerm,
        Call::Append { entries: 2, bytes: 60 },
        Call::Step,
        Call::Mark,
        Call::Step,
        // Larger than a group, so it is split; then larger than a segment.
        Call::Append { entries: 5, bytes: 1500 },
        Call::Step,
        Call::Step,
        Call::Append { entries: 1, bytes: 9000 },
        Call::Step,
        Call::Committed,
        Call::Purge(4),
        Call::Step,
    ];
    for round in 0..6 {
        script.extend([
            Call::Append { entries: 2, bytes: 700 },
            Call::Append { entries: 1, bytes: 1200 },
            Call::Step,
            Call::Committed,
            Call::Append { entries: 1, bytes: 10 },
            Call::Purge(3),
            Call::Step,
        ]);
        if round % 2 == 0 {
            script.extend([
                Call::TruncateLast(2),
                Call::NewTerm,
                Call::Vote(10 + round),
                Call::Step,
            ]);
        }
    }
    script.extend([
        Call::TruncateAll,
        Call::Step,
        Call::Append { entries: 2, bytes: 20 },
        Call::PurgeBeyond(5),
        Call::Step,
        Call::Append { entries: 3, bytes: 300 },
        Call::Mark,
        Call::Append { entries: 3, bytes: 300 },
        Call::Step,
    ]);
    script
}

/// Runs the script on a disk with an armed fault. `None`: the log did not even open.
fn run(disk: &MemoryDisk) -> Option<Driver> {
    let mut driver = Driver::new(disk).ok()?;
    driver.run(&script());
    let _ = driver.log.close();
    driver.writer.run_until_idle();
    Some(driver)
}

#[test]
fn the_acknowledged_prefix_survives_a_stop_at_every_operation() {
    let whole = MemoryDisk::new();
    let driver = run(&whole).unwrap();
    driver.check_answered("without a fault");
    assert_eq!(driver.acknowledged_states(), driver.states.len() - 1);
    let points = whole.operations();
    let mut kinds: BTreeMap<OperationKind, u64> = BTreeMap::new();
    for operation in whole.trace() {
        *kinds.entry(operation.kind).or_default() += 1;
    }
    driver.disk.power_cut(Loss::Everything);
    assert_eq!(driver.check_recovers("without a fault").model, driver.model());

    for at in 0..points {
        for kind in [FaultKind::CutBefore, FaultKind::CutAfter] {
            for loss in [Loss::Everything, Loss::Nothing, Loss::Random(at), Loss::Random(!at)] {
                check(Fault { at, kind }, Some(loss), GoOn::AfterAPowerCut);
            }
        }
        let fault = Fault { at, kind: FaultKind::Error };
        for loss in [None, Some(Loss::Everything), Some(Loss::Random(at))] {
            check(fault, loss, GoOn::AfterAPowerCut);
        }
        check(fault, None, GoOn::AtOnce);
    }
    println!("{points} fault points: {kinds:?}");
    assert!(points >= FAULT_POINTS_AT_LEAST, "only {points} fault points were visited");
}

/// When the log is used again after its recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoOn {
    AtOnce,
    /// Only after a power cut that takes all that the recovery did not make durable.
    AfterAPowerCut,
}

/// Stops at `fault`, loses what `loss` says (`None`: only the process ends), and expects what was
/// acknowledged; then goes on, and expects that too.
fn check(fault: Fault, loss: Option<Loss>, go_on: GoOn) {
    let context = format!("{fault:?}, {loss:?}, go on {go_on:?}");
    let disk = MemoryDisk::new();
    disk.arm(fault);
    let Some(mut driver) = run(&disk) else {
        return check_first_open(&disk, loss, &context);
    };
    driver.check_answered(&context);
    restart(&disk, loss);
    let restart = match go_on {
        GoOn::AtOnce => driver.check_opens(&disk, &context),
        GoOn::AfterAPowerCut => {
            check_every_stop_of_recovery(&driver, &context);
            driver.check_recovers(&context)
        }
    };
    driver.resume(restart);
    driver.run(&[Call::Vote(98)]);
    check_on_a_copy(&driver, &context);
    driver.run(&[
        Call::NewTerm,
        Call::Append { entries: 3, bytes: 500 },
        Call::Step,
        Call::Vote(99),
        Call::Append { entries: 1, bytes: 4000 },
    ]);
    driver.check_answered(&context);
    check_on_a_copy(&driver, &context);
    let expected = driver.model();
    driver.close();
    disk.power_cut(Loss::Everything);
    assert_eq!(driver.check_recovers(&context).model, expected, "{context}: after going on");
}

/// What is acknowledged now survives a power cut now.
fn check_on_a_copy(driver: &Driver, context: &str) {
    let disk = driver.disk.copy();
    disk.power_cut(Loss::Everything);
    driver.check_opens(&disk, &format!("{context}, cut while going on"));
}

/// Nothing was acknowledged before the log opened for the first time, so it must simply open.
fn check_first_open(disk: &MemoryDisk, loss: Option<Loss>, context: &str) {
    restart(disk, loss);
    let driver = Driver::new(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(Model::of(&driver.log), Model::default(), "{context}");
}

/// Recovery may be stopped anywhere as well; the next one must still find everything.
fn check_every_stop_of_recovery(driver: &Driver, context: &str) {
    let disk = driver.disk.copy();
    let before = disk.operations();
    drop(open(&disk));
    for at in 0..disk.operations() - before {
        let disk = driver.disk.copy();
        let loss = Loss::Random(at);
        disk.arm(Fault { at: disk.operations() + at, kind: FaultKind::CutAfter });
        drop(open(&disk));
        disk.power_cut(loss);
        driver.check_opens(&disk, &format!("{context}, recovery stopped at {at}"));
    }
}

fn restart(disk: &MemoryDisk, loss: Option<Loss>) {
    match loss {
        Some(loss) => disk.power_cut(loss),
        None => disk.process_crash(),
    }
}
