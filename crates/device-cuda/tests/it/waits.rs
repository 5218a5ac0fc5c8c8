//! That the harness catches what it is there for.

use tensorlift_fake_cuda::harness::Fake;

use crate::drive::{noise, options, round_trip};

/// With waits for events left out, as careless code would, a buffer is written over before its
/// copy has run. If this test fails, the double has become too kind to prove anything.
#[test]
fn an_omitted_event_wait_is_caught() {
    Fake::new("waits::an_omitted_event_wait_is_caught")
        .set("copy_delay_us", 3000)
        .allowing_misuse()
        .run(|control| {
            let device = options(0).build().unwrap();
            let source = noise(200_000, 1);
            assert!(round_trip(&device, &source).unwrap() == source);
            control.set("skip_waits", 1);
            // Whatever else breaks, the bytes must not come out right.
            let careless = round_trip(&device, &source);
            assert!(careless.is_ok_and(|bytes| bytes != source));
        });
}
