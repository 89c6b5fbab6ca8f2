//! Ways in which engines write one and the same stream: all are understood.

use inferscope_tests::binary;
use inferscope_tests::report::ChunkKind;
use inferscope_tests::script::{MODEL, What, after_ms};
use inferscope_tests::timed_server::{Answer, TimedServer};

#[test]
fn dialects_of_a_stream_are_all_understood() {
    let raw = |text: &str| after_ms(5, What::Raw(text.as_bytes().to_vec()));
    let chunk = r#"{"choices":[{"index":0,"delta":{"content":" x"}}]}"#;
    let steps = vec![
        raw(": keep-alive\n\n"),
        raw(&format!("data:{chunk}\n\n")),
        raw(&format!("data: {chunk}\r\n\r\n")),
        // One event in two writes, then two events in one.
        raw(&format!("data: {}", &chunk[..20])),
        raw(&format!("{}\n\n", &chunk[20..])),
        raw(&format!("data: {chunk}\n\ndata: {chunk}\n\n")),
        raw(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\n",
        ),
    ];
    let server = TimedServer::start(Answer::Stream(steps));
    let report = binary::run(&["--endpoint", &server.endpoint(), "--json"]).report();
    let request = &report.requests[0];
    let content = request.chunks.iter().filter(|chunk| chunk.kind == ChunkKind::Content);
    assert_eq!(content.count(), 5, "{request:?}");
    assert_eq!(request.finish_reason.as_deref(), Some("stop"));
    assert_eq!(report.load().model.as_deref(), Some(MODEL));
}
