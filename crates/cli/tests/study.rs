//! `delayline study` as a shell sees it: answers, pages, CSV, and errors for wrong input. The
//! numbers themselves are tested in the library.

mod common;

use common::{delayline, number, objects, scratch, stderr, text};

#[test]
fn the_claims_are_answered() {
    let output = delayline("study claims", &[]);
    let told = String::from_utf8(output.stdout).expect("the output is text");
    assert!(output.status.success());
    for part in [
        "32 GB",
        "fails",
        "holds",
        "Where it would turn",
        "zr400.energy",
        "pJ/bit",
        "The loop is said-loop",
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    let claims = &objects(&delayline("study claims 7 --json", &[]))[0]["claims"];
    assert_eq!(claims.as_array().map(Vec::len), Some(1));
    assert_eq!(claims[0]["number"], 7);
    assert!(
        claims[0]["inputs"]
            .as_array()
            .is_some_and(|inputs| !inputs.is_empty())
    );
}

#[test]
fn a_figure_can_be_set_and_a_sheet_added() {
    let rate = |more: &[&str]| {
        let arguments = "study decode --json --model llama-8b --medium said-loop --software ideal --accelerators 16";
        let objects = objects(&delayline(arguments, more));
        number(&objects[0], "/rows/0/tokens_per_s/typical")
    };
    let (short, long) = (rate(&[]), rate(&["--set", "said-loop.length=400km"]));
    // Twice the length holds the model three times instead of once.
    assert!((long / short - 1.5).abs() < 0.01, "{short} {long}");
    let dir = scratch();
    let sheet = dir.path().join("mine.toml");
    std::fs::write(
        &sheet,
        "[said-loop]\nlength = { value = 400, unit = 'km', source = 'me', date = '2026', tag = 'assumption' }",
    )
    .expect("can write");
    let added = rate(&["--datasheets", &text(&sheet)]);
    assert!((added / long - 1.0).abs() < 1e-9, "{added} {long}");
}

#[test]
fn every_study_writes_a_page_that_needs_nothing_else() {
    let dir = scratch();
    for (command, plots) in [
        ("claims", 5),
        ("link hollow-core", 5),
        ("measured", 1),
        ("media --feed 32TB/s", 6),
        ("decode --model llama-8b --medium hbf,own", 4),
        ("find --tokens 20 --medium own,hbf --accelerator b200", 3),
        (
            "sweep --model llama-8b --medium c-l --set c-l.length=100,200km",
            2,
        ),
        ("train --model llama-8b", 2),
        ("sheets c-l", 0),
    ] {
        let path = dir.path().join("page.html");
        let output = delayline(&format!("study {command} --html"), &[&text(&path)]);
        assert!(output.status.success(), "{command}: {output:?}");
        let page = std::fs::read_to_string(&path).expect("the page is there");
        assert_eq!(page.matches("<svg").count(), plots, "{command}");
        let answered = page.contains("<p class=\"answer\">");
        assert_eq!(answered, !command.starts_with("sheets"), "{command}");
        assert!(
            !page.contains("http") || !page.contains("src="),
            "{command}"
        );
    }
    let lost = dir.path().join("no/such/folder/page.html");
    let output = delayline("study claims --html", &[&text(&lost)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot be written"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_link_is_designed_from_a_file() {
    let printed = delayline("study link c-l --print", &[]);
    let design = String::from_utf8(printed.stdout).expect("the output is text");
    let dir = scratch();
    let path = dir.path().join("mine.toml");
    std::fs::write(&path, &design).expect("can write");
    let rate = |output: &std::process::Output| {
        number(&objects(output)[0], "/link/net_rate_bit_per_s/typical")
    };
    let own = rate(&delayline("study link c-l --json", &[]));
    let same = rate(&delayline("study link --json", &[&text(&path)]));
    assert_eq!(own, same);
    let told = delayline("study link --channels", &[&text(&path)]);
    let told = String::from_utf8(told.stdout).expect("the output is text");
    assert_eq!(
        told.matches(" THz ").count(),
        111,
        "a row for each channel: {told}"
    );

    std::fs::write(&path, design.replace("span_km", "span_m")).expect("can write");
    let output = delayline("study link", &[&text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(
        told.contains("`span_m`") && told.contains("`span_km`"),
        "{told}"
    );
}

/// An accelerator without memory of its own has no row that reads from it.
#[test]
fn an_accelerator_of_sram_alone_decodes() {
    let objects = objects(&delayline("study decode --json --accelerator lpu", &[]));
    let media: Vec<&str> = objects[0]["rows"]
        .as_array()
        .expect("there are rows")
        .iter()
        .filter_map(|row| row["medium"]["unit"]["id"].as_str())
        .collect();
    assert_eq!(media, ["article", "hbf"], "{objects:?}");
}

#[test]
fn a_sweep_writes_all_rows_or_nothing() {
    let dir = scratch();
    let path = dir.path().join("sweep.csv");
    let arguments =
        "study sweep --model llama-8b --set article.length=100..400km:3 --set batch=1,2 --out";
    let output = delayline(arguments, &[&text(&path)]);
    assert!(output.status.success(), "{output:?}");
    let csv = std::fs::read_to_string(&path).expect("the file is there");
    assert_eq!(csv.lines().count(), 7);
    assert!(csv.starts_with("article.length [km],batch,units,"));

    let none = dir.path().join("none.csv");
    let output = delayline(
        "study sweep --set article.length=0..400km:3 --out",
        &[&text(&none)],
    );
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(
        told.contains("`length` is 0 km") && told.contains("from 0.001"),
        "{told}"
    );
    assert!(!none.exists());
}

/// Prices older than six months are named in the last line, as of a day that can be given.
#[test]
fn old_prices_are_named_as_of_a_day() {
    let told = |arguments: &str| {
        let output = delayline(arguments, &[]);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("the output is text")
    };
    let old = told("study media dram ssd --hold 31GB --as-of 2026-11-25");
    let line = "Older than six months in 2026-11: dram.price (2026-03)";
    assert!(old.contains(line), "{old}");
    let fresh = told("study media dram ssd --hold 31GB --as-of 2024-01");
    assert!(!fresh.contains("Older than"), "{fresh}");
    let list = told("study sheets --stale --as-of 2026-11");
    assert!(
        list.contains("zr400.price") && list.contains("h100.memory_rate"),
        "{list}"
    );
    assert!(!list.contains("attenuation"), "{list}");
}

#[test]
fn every_command_tells_what_moves_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = folder.path().join("rows.csv");
    let sweep = format!(
        "sweep --model llama-8b --medium c-l --set c-l.length=100,200km --out {}",
        rows.display()
    );
    for (command, figure) in [
        ("link c-l", "edfa.output_power"),
        ("media c-l --hold 1GB --feed 1", "smf.price"),
        ("decode --model llama-8b --medium own", "tuned."),
        (
            "find --tokens 10 --accelerator b200 --medium own",
            "b200.price",
        ),
        ("sheets dram", "dram.capacity"),
        (&sweep, "b200.sram_rate"),
    ] {
        let output = delayline(&format!("study {command} --sensitivity"), &[]);
        assert!(output.status.success(), "{command}: {output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(figure), "{command}: {told}");
        let title = told.contains("What moves the") || told.contains("widest ranges");
        assert!(title, "{command}: {told}");
    }
}

/// Questions at the limits of what makes sense: what the answer contains, and what it does
/// not.
#[test]
fn odd_questions_have_answers() {
    for (arguments, says, says_not) in [
        // Every unit that is printed is parsed too.
        ("media ssd --hold 8.78PB", "Hold 8.78 PB", "error"),
        ("decode --medium hbf --set feed=2PB/s", "1250", "error"),
        // Where nothing is found there is no empty table.
        (
            "find --accelerator b200 --medium own --tokens 1e9",
            "for a user of Llama",
            "The best machine of each medium",
        ),
        // A measured machine is no faster than its parts.
        (
            "decode --medium own --compute-ms 0.000001",
            "17.4 ms",
            "1 ns",
        ),
        // An unknown price is not 0.
        ("decode --rate 1GB/s", "nor counted", "$0"),
        ("decode --medium own", "are the accelerator's", "0 W "),
        (
            "decode --medium own --accelerators 300",
            "were not measured",
            "ports",
        ),
        (
            "decode --medium hbf",
            "taken to have ports",
            "were not measured",
        ),
        (
            "link fiber:hollow-core,length=74800km",
            "The L band carries nothing",
            "The C band carries nothing",
        ),
        ("link fiber:hollow-core,length=1km", "in 1 span", "1 spans"),
        (
            "find --tokens 1 --medium own --accelerator lpu",
            "Nothing gives 1 token per second",
            "1 tokens",
        ),
        (
            "media dram --hold 31GB --feed 256Tbit/s",
            "feed it at 32 TB/s",
            "error",
        ),
        // Ranges of counts are whole but for rounding, and what is named twice is one thing.
        (
            "sweep --set batch=1..64:4:log --model llama-8b --medium own",
            "\n16,",
            "error:",
        ),
        (
            "decode --medium own --window 1GB",
            "--window changes nothing there",
            "error",
        ),
        (
            "train --units 1000000",
            "With 1 token a step or more",
            "\n0 ",
        ),
    ] {
        let output = delayline(&format!("study {arguments}"), &[]);
        assert!(output.status.success(), "{arguments}: {output:?}");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains(says), "{arguments}: {told}");
        assert!(!told.contains(says_not), "{arguments}: {told}");
    }
    let twice = &objects(&delayline("study media ssd dram ssd --json", &[]))[0]["media"];
    assert_eq!(twice.as_array().map(Vec::len), Some(2));
    let twice = "study decode --model llama-8b,llama-8b --accelerator b200,b200 --medium own \
                 --batch 1,1 --json";
    let twice = &objects(&delayline(twice, &[]))[0]["rows"];
    assert_eq!(twice.as_array().map(Vec::len), Some(1));
}

#[test]
fn wrong_input_is_named() {
    for (arguments, status, part) in [
        ("study", 2, "Usage"),
        ("study claims 16", 2, "1..=15"),
        ("study link nowhere.toml", 1, "or one of article, c-l"),
        ("study link orbit", 1, "`study media orbit` has its figures"),
        (
            "study media c-l --hold 1000TB --solve length",
            1,
            "at no length: the most is",
        ),
        ("study media --solve length", 2, "MEDIUM"),
        ("study sweep --medium c-l --sensitivity", 1, "--out FILE"),
        (
            "study sweep --medium fiber:s-c-l,length=20000km,laps=3 --set batch=1,200",
            1,
            "no row has an answer: length = 20000 km",
        ),
        ("study train --model deepseek-v3", 1, "expected a dense one"),
        ("study train --medium hbf", 1, "`write_rate`"),
        ("study train --parameters 774M", 2, "--layers"),
        ("study train --memory 1MB", 1, "are not enough"),
        (
            "study train --rate 1GB/s --write-rate 1B/s --mixed-rate 100GB/s",
            1,
            "at most 2 B/s, twice the slower",
        ),
        (
            "study decode --medium hbf --window 64KiB",
            1,
            "or more, because",
        ),
        (
            "study graph --row 1PB --batches 1 --draws 1",
            1,
            "rows of 1000000000000000 bytes, expected",
        ),
        ("study claims 1 --loop dram", 1, "`dram` is no loop"),
        (
            "study media fiber:c-l,length=0km",
            1,
            "`fiber:c-l,length=0km` is not possible",
        ),
        (
            "study sweep --medium hbf --set feed=0B/s,1TB/s",
            2,
            "different units",
        ),
        ("study decode --medium hbf --feed 3Zbit/s", 2, "256Tbit/s"),
        ("study train --compute 3", 2, "310GFLOP/s"),
        (
            "study train --parameters 100T --layers 9",
            2,
            "from 10k to 10T",
        ),
        ("study find --tokens 0", 1, "the rate of each user is 0"),
        ("study media --hold -5GB", 2, "'-5GB' for '--hold"),
        ("study decode --units 5000000", 2, "0..=1000000"),
        (
            "study decode --rate 1GB/s --compute-ms nan",
            2,
            "from 0.000001 to 1000000000",
        ),
        ("study decode --weights 1KB", 2, "from 1MB to 100TB"),
        (
            "study media paper",
            1,
            "`paper` is no medium; there are article",
        ),
        (
            "study decode --model gpt-9",
            1,
            "`gpt-9`; there are deepseek-v3",
        ),
        (
            "study decode --medium own --accelerator lpu",
            1,
            "no memory beside its SRAM",
        ),
        (
            "study decode --set batch=1,2",
            1,
            "only `study sweep` takes several",
        ),
        ("study decode --set speed", 2, "FROM..TO:COUNT"),
        (
            "study decode --medium said-loop --set said-loop.rate=-1Tbit/s",
            1,
            "`rate` is -1 Tbit/s",
        ),
        (
            "study decode --set article.rate=1Tbit/s",
            1,
            "no figure of article `rate`; there are laps and length",
        ),
        (
            "study decode --medium hbf --set feed=8",
            1,
            "feed is 8, but needs one of the units",
        ),
        (
            "study decode --medium hbf --set dram.price=1$/GB",
            1,
            "--set dram.price=1$/GB changes no printed figure",
        ),
        (
            "study media fiber:c-l,rate=3Tbit/s",
            1,
            "rate, power and price follow from the optics",
        ),
        (
            "study decode --context 1000000 --batch 64",
            1,
            "at most a batch of",
        ),
        (
            "study decode --window 10GB --medium article --accelerator lpu",
            1,
            "a window of 10.000 GB has no room",
        ),
        (
            "study decode --resident 139GB --accelerator h100 --medium hbf",
            1,
            "but NVIDIA H100 SXM holds 80.00 GB",
        ),
        (
            "study decode --software fast",
            1,
            "`fast`; there are server and tuned",
        ),
        (
            "study claims --as-of yesterday",
            2,
            "expected a year and a month",
        ),
        ("study claims --datasheets nowhere.toml", 1, "nowhere.toml"),
    ] {
        let output = delayline(arguments, &[]);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments}: {output:?}"
        );
        let told = stderr(&output);
        assert!(told.contains(part), "{arguments}: {told}");
    }
}

/// Asserts that two numbers are the same but for rounding.
fn near(what: &str, got: f64, expected: f64) {
    assert!(
        (got / expected - 1.0).abs() < 1e-6,
        "{what}: {got} is not {expected}"
    );
}

/// Asserts that every command gives the capacity, power and price of a design that `link`
/// gives, all with these options. Returns whether the design is possible; where it is not,
/// every command has to refuse it.
fn is_the_same_everywhere(design: &str, options: &str) -> bool {
    let run = |arguments: &str| delayline(&format!("study {arguments} {options} --json"), &[]);
    let commands = [
        format!("media {design} --hold 1MB --feed 1"),
        format!("decode --model llama-8b --weights 10MB --medium {design}"),
        format!("claims 1 2 3 --loop {design}"),
        format!("sweep --model llama-8b --weights 10MB --medium {design} --set batch=1,200"),
    ];
    let asked = run(&format!("link {design}"));
    // `link` also shows a line that carries nothing, and why; the others refuse it.
    let carries = |asked: &std::process::Output| {
        number(&objects(asked)[0], "/link/net_rate_bit_per_s/typical") > 0.0
    };
    if !asked.status.success() || !carries(&asked) {
        for command in &commands {
            let refused = run(command);
            assert!(!refused.status.success(), "{command} {options}: {asked:?}");
            let why = stderr(&refused);
            assert!(
                why.contains("carries") || why.contains("possible"),
                "{command}: {why}"
            );
        }
        return false;
    }
    let link = objects(&asked).remove(0);
    let figure = |path: &str| number(&link, path);
    let capacity = figure("/link/bytes_in_flight/typical");
    let (power, price) = (
        figure("/link/cost/power_w/typical"),
        figure("/link/cost/price_usd/typical"),
    );
    let [media, decode, claims, sweep] = commands.map(|command| objects(&run(&command)).remove(0));
    for (command, unit) in [
        ("media", &media["media"][0]["unit"]),
        ("decode", &decode["rows"][0]["medium"]["unit"]),
    ] {
        for (what, path, expected) in [
            ("capacity", "/capacity_bytes/typical", capacity),
            ("power", "/standby_w/typical", power),
            ("price", "/price/typical", price),
        ] {
            let what = format!("{command} {design} {options}: {what}");
            near(&what, number(unit, path), expected);
        }
    }
    let computed = |claim: usize, index: usize| {
        let path = format!("/claims/{claim}/computed/{index}/value/typical");
        number(&claims, &path)
    };
    near("claims: in flight", computed(0, 0), capacity);
    near("claims: the loop draws", computed(1, 0), power);
    let parts: f64 = (0..3).map(|index| computed(2, index)).sum();
    near("claims: its parts cost", parts, price);
    let csv = sweep["csv"].as_str().expect("rows");
    let column = |name: &str| {
        let head = csv.lines().next().expect("there is a head");
        let column = head.split(',').position(|head| head == name).expect(name);
        let row = csv.lines().nth(1).expect("there is a row");
        let cell = row.split(',').nth(column).expect(name);
        cell.parse::<f64>().expect(name)
    };
    near("sweep: power", column("medium_w"), power);
    near("sweep: price", column("medium_dollars"), price);
    true
}

#[test]
fn every_command_says_the_same_of_a_design() {
    for (design, set) in [
        ("article", ""),
        ("multi-core", ""),
        ("fiber:hollow-core,length=74800km", ""),
        ("c-l", "--set c-l.length=400km"),
        ("fiber:c-l,length=400km,laps=2", ""),
    ] {
        assert!(is_the_same_everywhere(design, set), "{design} works");
    }
}

/// The same for random designs: any of the program's, of any length and number of laps, with
/// other prices, energies and glass. `CASES=n` for more.
#[test]
fn every_command_says_the_same_of_any_design() {
    let cases = std::env::var("CASES").map_or(5, |n| n.parse().expect("a number"));
    let mut state = delayline_testing::seed();
    let mut draw = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let dir = scratch();
    let mut worked = 0;
    for case in 0..cases {
        let mut between = |low: f64, high: f64| low * (high / low).powf(draw());
        let mut sheets = String::new();
        for (sheet, key, low, high, unit) in [
            ("zr400", "energy", 5.0, 100.0, "pJ/bit"),
            ("zr800", "energy", 5.0, 100.0, "pJ/bit"),
            ("zr400", "price", 0.5, 20.0, "$/(Gbit/s)"),
            ("zr800", "price", 0.5, 20.0, "$/(Gbit/s)"),
            ("smf", "price", 1.0, 100.0, "$/km"),
            ("smf", "attenuation_1550", 0.16, 0.22, "dB/km"),
            ("hollow", "price", 10.0, 10_000.0, "$/km"),
        ] {
            let value = between(low, high);
            sheets += &format!(
                "[{sheet}]\n{key} = {{ value = {value}, unit = '{unit}', source = 'drawn', \
                 date = '2026', tag = 'assumption' }}\n"
            );
        }
        // A file cannot have two tables of one sheet, so each figure has a file.
        let folder = dir.path().join(format!("{case}"));
        std::fs::create_dir(&folder).expect("can make a folder");
        for (number, sheet) in sheets.split_inclusive("}\n").enumerate() {
            let file = folder.join(format!("{number}.toml"));
            std::fs::write(file, sheet).expect("can write");
        }
        let names = ["article", "c-l", "s-c-l", "multi-core", "hollow-core"];
        let name = names[(between(1.0, 2.0).log2() * names.len() as f64) as usize];
        let length = between(60.0, 20_000.0).round();
        let laps = between(1.0, 8.0).floor();
        let design = format!("fiber:{name},length={length}km,laps={laps}");
        println!("{design}");
        let options = format!("--datasheets {}", text(&folder));
        worked += usize::from(is_the_same_everywhere(&design, &options));
    }
    assert!(worked > 0 || cases < 5, "no design worked");
}

/// Solving for a figure, a search, and the sensitivity of an answer.
#[test]
fn questions_of_an_architect_are_answered() {
    let told = |arguments: &str| {
        let output = delayline(arguments, &[]);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("the output is text")
    };
    let solved = told("study media said-loop --hold 313.39GB --solve length");
    assert!(
        solved.contains("km of the article's loop, as said hold 313 GB"),
        "{solved}"
    );
    let found = told(
        "study find --tokens 50 --users 4 --context 8192 --coolest --medium own,hbf --accelerator b200,h100",
    );
    assert!(found.contains("The coolest that does it:"), "{found}");
    let moved = told("study media dram hbf --hold 31GB --sensitivity");
    let first = "What moves the price of the cheapest most";
    assert!(
        moved.contains(first) && moved.contains("hbf.price"),
        "{moved}"
    );
}

#[test]
fn a_recorded_route_of_experts_is_replayed() {
    let dir = scratch();
    let path = dir.path().join("tiny.route.csv");
    let mut route = String::from("# model=tiny n_expert=8\n");
    for step in 0..64 {
        for layer in 0..3 {
            // Half of the choices are of two of eight experts.
            let expert = if step % 2 == 0 {
                step / 2 % 2
            } else {
                (step * 5 + layer) % 8
            };
            route += &format!("0,1,{step},{layer},0,{expert},0.5,0,8192\n");
        }
    }
    std::fs::write(&path, route).expect("can write");
    let rows = objects(&delayline(
        "study experts --json --share 0.25,1",
        &[&text(&path)],
    ));
    assert_eq!(rows.len(), 12);
    let hits = |policy: &str, share: f64| {
        let row = rows
            .iter()
            .find(|row| row["policy"] == policy && (number(row, "/share") - share).abs() < 1e-9);
        let row = row.unwrap_or_else(|| panic!("no row of {policy}"));
        assert_eq!(row["default"] == true, policy == "next-use");
        assert!(number(row, "/bytes_per_token") <= 3.0 * 8192.0);
        number(row, "/hits")
    };
    for policy in ["first-come", "lru", "frequency", "s3-fifo", "next-use"] {
        assert!(hits(policy, 0.25) <= hits("belady", 0.25), "{policy}");
        assert_eq!(hits(policy, 1.0), 1.0, "{policy}");
    }
    let told = delayline("study experts", &[&text(&path)]);
    let told = String::from_utf8(told.stdout).expect("the output is text");
    assert!(
        told.contains("next-use") && told.contains("hits at 10 %"),
        "{told}"
    );

    std::fs::write(&path, "0,1,0,0,0,x,0,0,8192\n").expect("can write");
    let refused = delayline("study experts", &[&text(&path)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("line 1: expert is"),
        "{}",
        stderr(&refused)
    );
    let refused = delayline("study experts --share 1.5", &[&text(&path)]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn recorded_requests_are_put_through_the_store_of_kv_caches() {
    let dir = scratch();
    let path = dir.path().join("requests.jsonl");
    // A conversation of four turns, each longer by 512 tokens, with other requests between them.
    let mut trace = String::new();
    for turn in 0..4_usize {
        let ids: Vec<usize> = (0..=turn).collect();
        trace += &format!(
            "{{\"input_length\": {}, \"hash_ids\": {ids:?}}}\n",
            512 * (turn + 1)
        );
        trace += &format!(
            "{{\"input_length\": 100, \"hash_ids\": [{}]}}\n",
            100 + turn
        );
    }
    std::fs::write(&path, trace).expect("can write");
    let arguments = "study kv --json --size 100,1k,0.01M";
    let rows = objects(&delayline(arguments, &[&text(&path)]));
    assert_eq!(rows.len(), 10);
    let of = |policy: &str, size: u64| {
        let is = |row: &&serde_json::Value| row["policy"] == policy && row["size_tokens"] == size;
        let row = rows.iter().find(is);
        let row = row.unwrap_or_else(|| panic!("no row of {policy} at {size}"));
        assert_eq!(row["default"] == true, policy == "frequency with aging");
        assert_eq!(number(row, "/prompt_tokens"), 5520.0);
        number(row, "/hit_tokens")
    };
    for policy in ["frequency with aging", "lru", "belady"] {
        assert_eq!(of(policy, 10_000), 3072.0, "{policy}");
        assert!(of(policy, 1_000) <= of("belady", 1_000), "{policy}");
    }
    assert_eq!(rows[9]["policy"], "no limit");
    assert_eq!(number(&rows[9], "/hit_share"), 3072.0 / 5520.0);
    let page = dir.path().join("page.html");
    let told = delayline(
        "study kv --size 1k,10k --html",
        &[&text(&page), &text(&path)],
    );
    let told = String::from_utf8(told.stdout).expect("the output is text");
    assert!(
        told.contains("finds again") && told.contains("55.7 %"),
        "{told}"
    );
    let page = std::fs::read_to_string(&page).expect("the page is there");
    assert_eq!(page.matches("<svg").count(), 1);

    std::fs::write(&path, "{\"input_length\": 513, \"hash_ids\": [0]}").expect("can write");
    let refused = stderr(&delayline("study kv", &[&text(&path)]));
    assert!(
        refused.contains("line 1: a prompt of 513 tokens has 2 ids"),
        "{refused}"
    );
    let refused = delayline("study kv --size 3", &[&text(&path)]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_step_of_training_from_flash_is_told() {
    let measured = "study train --json --parameters 774M --layers 36 --tokens 1024 \
                    --compute 310GFLOP/s --rate 1.5GB/s";
    let train = &objects(&delayline(measured, &[]))[0]["train"];
    assert!((number(train, "/break_even_tokens") - 964.4).abs() < 0.1);
    assert!((number(train, "/free_tokens") - 1240.0).abs() < 0.1);
    let steps = train["steps"].as_array().expect("a list");
    assert_eq!(number(&steps[0], "/tokens"), 1024.0);
    for step in steps {
        let [bound, took, memory] =
            ["/bound_s", "/step_s", "/in_memory_s"].map(|at| number(step, at));
        assert!(memory <= took && bound <= took * (1.0 + 1e-6), "{step}");
    }
    let contenders = train["contenders"].as_array().expect("a list");
    assert_eq!(contenders.len(), 3);
    assert_eq!(train["published"].as_array().map(Vec::len), Some(5));
    let told = delayline(
        "study train --model llama-70b --tokens 4M --units 8 --sensitivity",
        &[],
    );
    let told = String::from_utf8(told.stdout).expect("the output is text");
    for part in [
        "break-even",
        "FlashNeuron",
        "drives last",
        "b200.compute",
        "What moves the",
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
}

#[test]
fn rows_of_a_graph_are_replayed_on_a_drive() {
    let args = "study graph --json --rows 300000 --draws 2000 --batches 60 --drive cloud,nvme";
    let rows = objects(&delayline(args, &[]));
    assert_eq!(rows.len(), 8);
    let row = |policy: &str, drive: &str| {
        let is = |row: &&serde_json::Value| row["policy"] == policy && row["drive"] == drive;
        rows.iter()
            .find(is)
            .unwrap_or_else(|| panic!("no row of {policy}"))
    };
    assert!(rows.iter().all(|row| row["predicted"] == true));
    let missed = |policy: &str| number(row(policy, "cloud"), "/rows_missed");
    assert!(missed("belady") <= missed("look-ahead") && missed("look-ahead") < missed("sieve"));
    let ours = row("look-ahead", "cloud");
    assert!(number(ours, "/swept_s") < number(ours, "/single_s"));

    let dir = scratch();
    let (graph, page) = (dir.path().join("tiny"), dir.path().join("page.html"));
    assert!(
        delayline("graph synth tiny", &[&text(&graph)])
            .status
            .success()
    );
    let args = "study graph --batches 20 --batch-size 32 --fanouts 5,5 --share 0.5 --html";
    let told = delayline(args, &[&text(&page), &text(&graph)]);
    let told = String::from_utf8(told.stdout).expect("the output is text");
    assert!(
        told.contains("Predicted") && told.contains("look-ahead"),
        "{told}"
    );
    assert!(
        std::fs::read_to_string(&page)
            .expect("a page")
            .contains("look-ahead")
    );

    let refused = delayline("study graph --skew 9", &[]);
    assert_eq!(refused.status.code(), Some(2));
    let refused = delayline("study graph --rows 1000 --draws 100", &[]);
    assert!(
        stderr(&refused).contains("allow at least"),
        "{}",
        stderr(&refused)
    );
}
