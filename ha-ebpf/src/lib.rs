//! Empty: a library target lets cargo rebuild dependents when the programs change.
#![no_std]
