//! The words of synthetic prompts.
//!
//! Owns the list, never the order of use. Read by `synthetic`. Each word is one token, at the start of a text and
//! within it, in the vocabularies of GPT-2, cl100k, Llama 2 and 3, Qwen 3 and SmolLM2: the list is their intersection,
//! without the fragments and the unfriendly words, which were removed by hand.

/// One word for each value of a byte.
pub(super) const WORDS: [&str; 256] = [
    "time", "year", "people", "way", "day", "thing", "life", "child", "world", "school", "state", "family",
    "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system",
    "program", "question", "work", "number", "night", "point", "home", "water", "room", "mother", "area",
    "money", "story", "fact", "month", "lot", "right", "study", "book", "word", "business", "issue", "side",
    "kind", "head", "house", "service", "friend", "power", "hour", "game", "line", "end", "member", "law",
    "car", "city", "name", "team", "minute", "body", "back", "parent", "face", "level", "office", "door",
    "health", "person", "art", "history", "result", "change", "reason", "research", "air", "about", "after",
    "again", "against", "also", "always", "another", "any", "around", "ask", "before", "begin", "best",
    "better", "big", "black", "both", "build", "buy", "call", "can", "cause", "center", "clear", "close",
    "come", "common", "consider", "control", "could", "course", "cut", "data", "deal", "deep", "design",
    "direct", "draw", "drive", "early", "east", "easy", "even", "ever", "every", "example", "fall", "far",
    "fast", "field", "figure", "final", "find", "fire", "first", "five", "follow", "food", "foot", "form",
    "four", "free", "front", "full", "general", "give", "glass", "good", "great", "green", "ground", "grow",
    "half", "happy", "hard", "help", "here", "high", "hold", "image", "into", "just", "keep", "key", "land",
    "language", "large", "last", "late", "learn", "leave", "left", "less", "let", "letter", "like", "list",
    "little", "live", "local", "long", "look", "love", "low", "machine", "main", "make", "many", "map",
    "mark", "market", "matter", "may", "mean", "might", "mile", "mind", "more", "most", "move", "much",
    "music", "must", "near", "need", "never", "new", "next", "north", "note", "nothing", "now", "object",
    "off", "often", "old", "once", "only", "open", "order", "other", "over", "page", "paper", "pass", "past",
    "pay", "plan", "plant", "play", "press", "price", "process", "product", "public", "pull", "put", "quick",
    "quite", "rain", "reach", "read", "ready", "real", "red", "remember", "rest", "rich", "rise", "river",
    "road", "rock", "round", "rule", "run", "same", "save",
];
