//! The client against a scripted far end.
