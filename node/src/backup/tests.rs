//! Backups from end to end on one machine, file by file.
