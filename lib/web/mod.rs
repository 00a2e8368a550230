//! left4me-web: pages, live logs, the REST API and metrics over what the database says.
