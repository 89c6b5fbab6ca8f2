use super::*;
use proptest::prelude::*;

type Owned = (String, String);

/// The events of a body that arrives in these pieces, and the error that ended it.
fn events_of(pieces: &[&[u8]]) -> (Vec<Owned>, Option<SseError>) {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    let mut keep = |e: SseEvent<'_>| {
        events.push((
            String::from_utf8_lossy(e.name).into_owned(),
            String::from_utf8_lossy(e.data).into_owned(),
        ));
        ControlFlow::Continue(())
    };
    for piece in pieces {
        if let Err(error) = parser.feed(piece, &mut keep) {
            return (events, Some(error));
        }
    }
    let error = parser.finish(&mut keep).err();
    (events, error)
}

fn data_of(body: &str) -> Vec<String> {
    let (events, error) = events_of(&[body.as_bytes()]);
    assert_eq!(error, None, "{body:?}");
    events.into_iter().map(|(_, data)| data).collect()
}

#[test]
fn every_kind_of_line_end_frames_the_same_events() {
    for end in ["\n", "\r\n", "\r"] {
        let body = ["data: a", "", "data: b", "data: c", "", ""].join(end);
        assert_eq!(data_of(&body), ["a", "b\nc"], "{end:?}");
    }
    assert_eq!(data_of("data: a\r\r\ndata: b\n\r\n"), ["a", "b"], "mixed");
}

#[test]
fn one_space_after_the_colon_is_optional_and_only_one_is_dropped() {
    assert_eq!(data_of("data:a\n\ndata: b\n\ndata:  c\n\ndata:\n\ndata\n\n"), ["a", "b", " c", "", ""]);
}

#[test]
fn comments_ids_and_unknown_fields_are_no_events() {
    assert_eq!(data_of(": keep-alive\n\n:\n\nid: 7\nretry: 10\nfoo: bar\n\ndata: x\n: y\n\n"), ["x"]);
}

#[test]
fn a_byte_order_mark_is_dropped_at_the_start_only() {
    assert_eq!(data_of("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a"]);
}

#[test]
fn the_event_name_holds_for_one_event() {
    let (events, _) = events_of(&[b"event: error\ndata: a\n\ndata: b\n\nevent: lost\n\ndata: c\n\n"]);
    let named = |n: &str, d: &str| (n.to_owned(), d.to_owned());
    assert_eq!(events, [named("error", "a"), named("", "b"), named("", "c")]);
}

#[test]
fn an_error_field_is_the_data_of_an_event_of_that_name() {
    let (events, _) = events_of(&[b"error: {\"code\":500}\n\n"]);
    assert_eq!(events, [("error".to_owned(), "{\"code\":500}".to_owned())]);
}

#[test]
fn what_is_pending_at_the_end_is_an_event() {
    assert_eq!(data_of("data: a\n\ndata: [DONE]"), ["a", "[DONE]"]);
    assert_eq!(data_of("data: a\n\ndata: [DONE]\n"), ["a", "[DONE]"]);
    assert_eq!(data_of("data: a\n\nevent: x"), ["a"]);
}

#[test]
fn a_line_or_event_over_the_limit_is_an_error_after_the_events_before_it() {
    let mut long = b"data: a\n\ndata: ".to_vec();
    long.resize(long.len() + LIMIT_BYTES, b'x');
    let (events, error) = events_of(&[&long]);
    assert_eq!((events.len(), error), (1, Some(SseError::LineTooLong)));
    let halves = events_of(&[&long[..100], &long[100..]]);
    assert_eq!((halves.0.len(), halves.1), (1, Some(SseError::LineTooLong)));
    let ended = [&long, b"\n\n".as_slice()].concat();
    assert_eq!(events_of(&[&ended]).1, Some(SseError::LineTooLong), "also where it ends in the same read");

    let line = [b"data: ".as_slice(), &[b'x'; 1 << 18], b"\n"].concat();
    let (events, error) = events_of(&[&line, &line, &line, &line, &line]);
    assert_eq!((events.len(), error), (0, Some(SseError::EventTooLong)));
    // A line of only a name adds its joint to the data.
    let bare = b"data\n".repeat(LIMIT_BYTES + 2);
    assert_eq!(events_of(&[&bare]).1, Some(SseError::EventTooLong));
}

#[test]
fn hostile_bodies_take_no_more_room_than_the_limits() {
    let field = |name: &str, bytes: usize| [name.as_bytes(), &vec![b'x'; bytes - name.len()]].concat();
    let (name, data) = (field("event: ", LIMIT_BYTES), field("data: ", LIMIT_BYTES - 1));
    let largest_of_each = [&name[..], b"\n", &data, b"\n", &data].concat();
    let lines = [field("data: ", LIMIT_BYTES / 4), b"\n".to_vec()].concat().repeat(32);
    for (body, least) in [
        (largest_of_each, 3 * LIMIT_BYTES - 32),
        (field("data: ", 8 * LIMIT_BYTES), LIMIT_BYTES / 2),
        (field("event: ", 8 * LIMIT_BYTES), LIMIT_BYTES / 2),
        (lines, LIMIT_BYTES / 2),
    ] {
        let mut parser = SseParser::default();
        for read in body.chunks(1000) {
            // Nobody goes on after an error; here it must do no harm.
            let _ = parser.feed(read, |_| ControlFlow::Continue(()));
        }
        // Each of the three buffers may be doubled once too often when it grows to its limit.
        let room = parser.room();
        assert!((least..=3 * 2 * LIMIT_BYTES).contains(&room), "{room}");
    }
}

#[test]
fn a_break_drops_what_follows() {
    let mut parser = SseParser::default();
    let mut seen = 0;
    let body = b"data: a\n\ndata: b\n\n";
    let result = parser.feed(body, |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((result, seen), (Ok(()), 1));
}

/// Bodies made of the bytes and words that matter to the framing.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"data:".to_vec()),
        Just(b"data: ".to_vec()),
        Just(b"event: error".to_vec()),
        Just(b": ping".to_vec()),
        Just("é€😀".as_bytes().to_vec()),
        Just(BOM.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_byte_split_gives_the_same_events(body in body(), cuts in proptest::collection::vec(0usize..200, 0..12)) {
        let whole = events_of(&[&body]);
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        prop_assert_eq!(&events_of(&bytes), &whole);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(body.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&body[from..cut]);
            from = cut;
        }
        pieces.push(&body[from..]);
        prop_assert_eq!(events_of(&pieces), whole);
    }
}
