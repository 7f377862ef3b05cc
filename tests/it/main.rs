//! Scenarios over real processes of the release binary, in one test binary. They run one at a time
//! (`--test-threads=1`): each starts nodes of its own and loads the machine.

mod bad_days;
mod bad_input;
mod canary;
mod cloud;
mod command_line;
mod contention;
mod credentials;
mod dev;
mod disk_full;
mod faces;
mod keys;
mod members;
mod offline;
mod operations;
mod outage;
mod readme;
mod restore;
mod runbook;
mod same_story;
mod sdk;
