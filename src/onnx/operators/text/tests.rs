//! The operators on text, against what the standard says and onnxruntime answers.

use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::super::entry::Domain;
use super::super::operator::texts;
use super::super::trial::{Trial, floats, int, ints, string, strings, words};
use super::regex::Regex;

fn run_on(name: &str, attributes: &[AttributeProto], inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
    let inputs: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
    let domain = if name == "Tokenizer" { Domain::Microsoft } else { Domain::Onnx };
    Trial::new(domain, name, attributes).run(&inputs)
}

/// The texts of the first output, and its shape.
fn run(name: &str, attributes: &[AttributeProto], input: &Tensor) -> (Vec<String>, Vec<usize>) {
    let output = run_on(name, attributes, std::slice::from_ref(input)).unwrap().remove(0);
    (texts(&output).to_vec(), output.shape().to_vec())
}

fn refusal(name: &str, attributes: &[AttributeProto], input: &Tensor) -> String {
    let error = run_on(name, attributes, std::slice::from_ref(input)).unwrap_err();
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn stop_words_are_whole_elements_and_case_is_that_of_unicode() {
    let normalized = |attributes: &[AttributeProto], input: &[&str]| {
        run("StringNormalizer", attributes, &words(input)).0.join("|")
    };
    let (lower, upper) = (string("case_change_action", "LOWER"), string("case_change_action", "UPPER"));
    assert_eq!(normalized(std::slice::from_ref(&lower), &["Straße", "ÉCLAIR", "ΑΣ"]), "straße|éclair|ας");
    assert_eq!(normalized(std::slice::from_ref(&upper), &["Straße", "", "ŉ"]), "STRASSE||ʼN");
    let stops = strings("stopwords", &["a", "É"]);
    assert_eq!(normalized(&[stops.clone(), int("is_case_sensitive", 1)], &["a", "A", "a b", "é"]), "A|a b|é");
    assert_eq!(normalized(&[stops.clone(), upper], &["a", "A", "x", "é"]), "X");
    // When nothing is left, there is one empty text.
    let (left, shape) = run("StringNormalizer", std::slice::from_ref(&stops), &words(&["a", "A"]));
    assert_eq!((left, shape), (vec![String::new()], vec![1]));
    let row = words(&["a", "b", "c"]).into_shape(&[1, 3]).unwrap();
    let (left, shape) = run("StringNormalizer", std::slice::from_ref(&stops), &row);
    assert_eq!((left.join("|"), shape), ("b|c".into(), vec![1, 2]));
    let rows = words(&["a", "b"]).into_shape(&[2, 1]).unwrap();
    assert!(refusal("StringNormalizer", &[stops], &rows).contains("expected [C] or [1, C]"));
    let turkish = [lower, string("locale", "tr_TR.UTF-8")];
    assert!(refusal("StringNormalizer", &turkish, &words(&["I"])).contains("`locale` is `tr_TR.UTF-8`"));
}

#[test]
fn texts_are_split_as_python_splits_them() {
    let split = |attributes: &[AttributeProto], input: &[&str]| {
        let outputs = run_on("StringSplit", attributes, &[words(input)]).unwrap();
        let counts = outputs[1].cast_to::<i64>().unwrap().into_owned();
        (texts(&outputs[0]).join("|"), outputs[0].shape().to_vec(), counts)
    };
    assert_eq!(split(&[], &[" a  b\u{3000}c ", ""]), ("a|b|c|||".into(), vec![2, 3], tensor1(&[3_i64, 0])));
    assert_eq!(split(&[int("maxsplit", 1)], &[" a b c "]), ("a|b c ".into(), vec![1, 2], tensor1(&[2_i64])));
    assert_eq!(split(&[int("maxsplit", 0)], &["  "]), (String::new(), vec![1, 0], tensor1(&[0_i64])));
    let comma = string("delimiter", ", ");
    assert_eq!(
        split(std::slice::from_ref(&comma), &["a, b,c", "", ", "]),
        ("a|b,c||||".into(), vec![3, 2], tensor1(&[2_i64, 1, 2]))
    );
    assert_eq!(
        split(&[comma, int("maxsplit", 1)], &["a, b, c"]),
        ("a|b, c".into(), vec![1, 2], tensor1(&[2_i64]))
    );
}

#[test]
fn texts_are_joined_with_broadcasting() {
    let rows = words(&["a", "b"]).into_shape(&[2, 1]).unwrap();
    let joined = run_on("StringConcat", &[], &[rows, words(&["x", "é"])]).unwrap().remove(0);
    assert_eq!((texts(&joined).join("|"), joined.shape()), ("ax|aé|bx|bé".into(), &[2, 2][..]));
}

#[test]
fn a_regular_expression_means_what_it_means_in_re2() {
    let full = |pattern: &str, text: &str| Regex::new(pattern).unwrap().searcher().is_full_match(text);
    assert!(full(r"www\.[\w.-]+\.\bcom\b", "www.google.com"));
    assert!(full("a|ab", "ab") && full("(?U)a+", "aaa") && full("", ""));
    // Classes like \w have only ASCII characters, and . is no line break.
    assert!(!full(r"\w", "é") && !full(r"[\w]", "é") && full(r"\W", "é") && full(r"[^\d\s]", "é"));
    assert!(!full(r"\s", "\u{a0}") && !full(r"\s", "\u{b}") && full(r"\s", "\u{c}"));
    assert!(!full(".", "\n") && full("(?s).", "\n") && full("(?i)É", "é") && full(r"\pL\p{Greek}", "éα"));
    for (pattern, reason) in [
        ("[a[b]]", "inside a class"),
        ("[a&&b]", "inside a class"),
        ("(?x) a", "only the flags"),
        ("(?x: a)", "only the flags"),
        (r"\<a", "no word boundaries"),
        ("(a", "unclosed group"),
        (r"(a)\1", "backreferences"),
        (r"(\pL{500}){500}", "exceeded limit"),
    ] {
        let error = Regex::new(pattern).unwrap_err();
        assert!(error.contains(reason) && !error.contains('\n'), "{pattern}: {error}");
    }
}

#[test]
fn the_longest_of_the_leftmost_matches_is_found() {
    let regex = Regex::new("a|aa|^b").unwrap();
    let mut searcher = regex.searcher();
    let mut found = |from| searcher.find("baaa", from).map(|found| (found.start(), found.end()));
    assert_eq!([found(0), found(1), found(3), found(4)], [Some((0, 1)), Some((1, 3)), Some((3, 4)), None]);
}

#[test]
fn texts_are_cut_into_tokens_as_onnxruntime_cuts_them() {
    let always = [int("mark", 0), int("mincharnum", 1), string("pad_value", "#")];
    let tokens = |attributes: &[AttributeProto], input: &[&str]| {
        let (tokens, shape) = run("Tokenizer", &[&always, attributes].concat(), &words(input));
        assert_eq!(shape, [input.len(), tokens.len() / input.len()]);
        tokens.join("|")
    };
    let separators = |all: &[&str]| strings("separators", all);
    let expression = |pattern: &str| string("tokenexp", pattern);
    assert_eq!(tokens(&[separators(&[" "])], &[" ab  cd ", "e"]), "ab|cd|e|#");
    assert_eq!(tokens(&[separators(&[";", ","])], &["a,b;;c"]), "a|b|c");
    assert_eq!(tokens(&[separators(&["b|,", "b;"])], &["a,b;;c"]), "a|;;c");
    assert_eq!(tokens(&[separators(&["o|oo"])], &["foobar"]), "f|bar");
    assert_eq!(tokens(&[separators(&["^a"])], &["aab"]), "ab");
    assert_eq!(tokens(&[separators(&[" ", "^a"])], &["aab aab"]), "ab|ab");
    assert_eq!(tokens(&[separators(&[""])], &["Éa b"]), "É|a| |b");
    assert_eq!(tokens(&[expression(".")], &["a\nb"]), "a|\n|b");
    assert_eq!(tokens(&[expression("[a-z]*")], &["aab cd"]), "aab|cd");
    assert_eq!(tokens(&[expression(r"\w\w+")], &["Éa bc x"]), "bc");
    assert_eq!(tokens(&[expression(r"\b[a-z]\b|[a-z][a-z]")], &["aab cd"]), "aa|cd");
    let marked = |input: &[&str]| {
        let attributes = [int("mark", 1), int("mincharnum", 2), string("pad_value", "#"), separators(&[" "])];
        run("Tokenizer", &attributes, &words(input)).0.join("|")
    };
    assert_eq!(marked(&["ab c", "d"]), "\u{2}|ab|\u{3}|\u{2}|\u{3}|#");
    assert_eq!(marked(&["c", ""]), "");
    let grid = words(&["a b", "c"]).into_shape(&[2, 1]).unwrap();
    assert_eq!(run("Tokenizer", &[&always[..], &[separators(&[" "])]].concat(), &grid).1, [2, 1, 2]);
    for (attributes, reason) in [
        (vec![], "expected `separators` or `tokenexp`"),
        (vec![separators(&["a"]), expression("b")], "not both"),
        (vec![separators(&["b*"])], "matches a text without characters"),
        (vec![separators(&["a"]), strings("stopwords", &["b"])], "use a StringNormalizer"),
        (vec![expression("(")], "`tokenexp`"),
    ] {
        let error = refusal("Tokenizer", &[&always[..], &attributes].concat(), &words(&["a"]));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn n_grams_are_counted_with_skips_and_weighed_in_the_order_of_the_pool() {
    let grams = |attributes: &[AttributeProto], input: Tensor| {
        let output = run_on("TfIdfVectorizer", attributes, &[input]).unwrap().remove(0);
        output.cast_to::<f32>().unwrap().into_owned()
    };
    let lengths = |least: i64, most: i64, skips: i64| {
        [int("min_gram_length", least), int("max_gram_length", most), int("max_skip_count", skips)]
    };
    let single = |mode: &str| {
        let weights = floats("weights", &[1.0, 10.0, 100.0]);
        let pool = [ints("pool_int64s", &[1, 2, 3]), ints("ngram_indexes", &[2, 0, 4]), weights];
        let all =
            [&lengths(1, 1, 0)[..], &pool, &[ints("ngram_counts", &[0]), string("mode", mode)]].concat();
        grams(&all, tensor1(&[1_i64, 2, 2, 3, 9]))
    };
    assert_eq!(single("TF"), tensor1(&[2_f32, 0.0, 1.0, 0.0, 1.0]));
    assert_eq!(single("IDF"), tensor1(&[10_f32, 0.0, 1.0, 0.0, 100.0]));
    assert_eq!(single("TFIDF"), tensor1(&[20_f32, 0.0, 1.0, 0.0, 100.0]));
    let pool = strings("pool_strings", &["a", "b", "c", "a", "b", "b", "c"]);
    let rest = [ints("ngram_counts", &[0, 3]), ints("ngram_indexes", &[0, 1, 2, 3, 4]), string("mode", "TF")];
    let pairs = |least| [&lengths(least, 2, 1)[..], std::slice::from_ref(&pool), &rest].concat();
    let text = words(&["a", "b", "b", "c", "a", "a", "b", "c"]).into_shape(&[2, 4]).unwrap();
    let both = tensor2(&[[1_f32, 2.0, 1.0, 2.0, 2.0], [2.0, 1.0, 1.0, 2.0, 1.0]]);
    assert_eq!(grams(&pairs(1), text.clone()), both);
    let long = tensor2(&[[0_f32, 0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 2.0, 1.0]]);
    assert_eq!(grams(&pairs(2), text), long);
    assert_eq!(grams(&pairs(1), words(&[])), tensor1(&[0_f32; 5]));
    // A number of skips that is larger than any row takes no time.
    let many = [&lengths(2, 2, i64::MAX)[..], std::slice::from_ref(&pool), &rest].concat();
    assert_eq!(grams(&many, words(&["a", "x", "x", "b"])), tensor1(&[0_f32, 0.0, 0.0, 1.0, 0.0]));
    for (replaced, reason) in [
        (string("mode", "tf"), "expected TF, IDF or TFIDF"),
        (ints("ngram_indexes", &[0, 1]), "5 n-grams and 2 `ngram_indexes`"),
        (ints("ngram_indexes", &[0, 1, 2, 3, -1]), "expected one or more columns"),
        (ints("ngram_counts", &[0, 2]), "`ngram_counts` is [0, 2]"),
        (ints("ngram_counts", &[0, 9]), "`ngram_counts` is [0, 9]"),
        (strings("pool_strings", &["a", "a", "c", "a", "b", "b", "c"]), "is there twice"),
        (int("max_gram_length", 0), "`max_gram_length`: expected 1 or more"),
        (ints("pool_int64s", &[1]), "expected one of"),
    ] {
        let kept = pairs(1).into_iter().filter(|attribute| attribute.name != replaced.name);
        let attributes: Vec<AttributeProto> = kept.chain([replaced.clone()]).collect();
        let error = refusal("TfIdfVectorizer", &attributes, &words(&["a"]));
        assert!(error.contains(reason), "{error}");
    }
}
