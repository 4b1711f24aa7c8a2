//! The lab: nodes in network namespaces on one bridge.
