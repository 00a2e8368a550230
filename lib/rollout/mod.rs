//! left4me-rollout: drives one move of servers, or one update in waves, over the hosts of a fleet.
