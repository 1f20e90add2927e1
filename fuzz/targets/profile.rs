//! Any bytes as a pprof profile: what can be read is written, and reads as the same again.

#![no_main]

use kymo::profile::Profile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(profile) = Profile::decode(bytes) else { return };
    let written = profile.encode_raw();
    let again = Profile::decode(&written).expect("what kymo has written, it reads");
    assert_eq!(again.encode_raw(), written);
});
