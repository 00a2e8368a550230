//! left4me-gate: carries out orders from other hosts. It has the database and no network; what it reads
//! comes from left4me-link, which has the network and nothing else.
