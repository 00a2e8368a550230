//! left4me-link: carries orders, events and statuses between this host and the engine of its fleet. It
//! has the network and no database.
