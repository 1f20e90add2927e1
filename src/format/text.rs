//! A trace as text, both ways: for golden tests and for people.
