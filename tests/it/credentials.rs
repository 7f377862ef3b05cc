//! Every operation of the route table with every kind of credential.
//!
//! The table is the served OpenAPI document, which the gateway derives from the one route table;
//! an operation that is not in it does not exist. Wrong credentials are judged before anything
//! else, so a made-up path parameter and an empty body are enough.
