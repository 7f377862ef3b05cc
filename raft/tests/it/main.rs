//! Nodes that agree, in one process: real logs and state stores on temporary directories, and a
//! network whose links can be cut.

mod agreement;
mod audit;
mod catching_up;
mod failures;
mod members;
mod net;
mod offline;
mod rate;
mod room;
mod world;
