//! The search against every machine of a small space, and questions that make no sense.

use super::*;

fn question(tokens_per_s: f64, users: u32, wish: Wish) -> FindQuestion {
    FindQuestion {
        model: "llama-70b".to_owned(),
        tokens_per_s,
        users,
        context: 8192,
        software: "tuned".to_owned(),
        accelerators: vec!["b200".to_owned(), "h100".to_owned()],
        media: ["own", "hbf", "hbm3e", "c-l"].map(str::to_owned).to_vec(),
        wish,
    }
}

/// Whatever is found gives each user the rate, and serves all users.
#[test]
fn what_is_found_does_what_is_asked() {
    let library = Library::embedded();
    for (tokens, users) in [(20.0, 1), (50.0, 16), (100.0, 5)] {
        for wish in [Wish::Cheapest, Wish::Coolest] {
            let found = find(&library, &question(tokens, users, wish)).expect("it can be asked");
            assert!(!found.machines.is_empty(), "{tokens} {users}");
            for one in &found.machines {
                assert!(
                    one.decoded.tokens_per_s.typical >= tokens * 0.999,
                    "{one:?}"
                );
                assert!(one.batch * one.machines >= users, "{one:?}");
            }
            let told = found.machines.len() + found.too_slow.len();
            assert_eq!(told, 4, "each medium is found or too slow");
        }
    }
}

/// The number that sensitivities ask for is that of the whole search.
#[test]
fn the_best_alone_is_the_first_of_all() {
    let library = Library::embedded();
    for (tokens, users) in [(20.0, 1), (50.0, 16), (100.0, 5), (1e6, 1)] {
        for wish in [Wish::Cheapest, Wish::Coolest] {
            let asked = question(tokens, users, wish);
            let all = find(&library, &asked).expect("it can be asked");
            let first = all.machines.first().map(|best| best.weight(wish));
            let best = best_weight(&library, &asked).expect("it can be asked");
            assert_eq!(best, first, "{tokens} {users} {wish:?}");
        }
    }
}

/// No machine that `decode` accepts, of all small ones, is cheaper or cooler.
#[test]
fn nothing_better_is_overlooked() {
    let library = Library::embedded();
    let (tokens, users) = (40.0, 4);
    let model = LanguageModel::of(&library, "llama-70b").expect("it is embedded");
    let software = Software::of(&library, "tuned").expect("it is embedded");
    for medium in ["own", "hbf"] {
        let best = |wish| {
            let mut asked = question(tokens, users, wish);
            asked.media = vec![medium.to_owned()];
            find(&library, &asked)
                .expect("it can be asked")
                .machines
                .remove(0)
        };
        let (cheapest, coolest) = (best(Wish::Cheapest), best(Wish::Coolest));
        for id in ["b200", "h100"] {
            for (count, batch, units) in (1..=6).flat_map(|count| {
                [1, 4]
                    .into_iter()
                    .flat_map(move |batch| [1, 6].map(|units| (count, batch, units)))
            }) {
                let accelerator = Accelerator::of(&library, id)
                    .expect("it is embedded")
                    .times(count);
                let unit = match medium {
                    "own" => accelerator.own_memory(&library).expect("it has some"),
                    id => media::unit(&library, id).expect("it is embedded"),
                };
                let (price, power_w) = (accelerator.price, accelerator.power_w);
                let case = Case {
                    model: model.clone(),
                    accelerator,
                    software: software.clone(),
                    unit,
                    units: if medium == "own" { 0 } else { units },
                    feed_bytes_per_s: 0.0,
                    batch,
                    context: 8192,
                    window_bytes: None,
                    resident_bytes: 0,
                    compute_s: None,
                    plan: None,
                };
                // Most are too slow, and then nothing else of them matters.
                if case
                    .closed_form_s()
                    .is_none_or(|lap_s| lap_s > 1.01 / tokens)
                {
                    continue;
                }
                let Ok(decoded) = decode(&library, &case) else {
                    continue;
                };
                if decoded.tokens_per_s.typical < tokens {
                    continue;
                }
                let machines = f64::from(users.div_ceil(batch));
                let price = (decoded.medium.price.typical + price.typical) * machines;
                let power_w = (decoded.medium_w.typical + power_w.typical) * machines;
                let what = format!("{count} × {id}, batch {batch}, {units} of {medium}");
                assert!(
                    price >= cheapest.price.typical * 0.999,
                    "{what} costs {price}"
                );
                assert!(
                    power_w >= coolest.power_w.typical * 0.99,
                    "{what} draws {power_w}"
                );
            }
        }
    }
}

#[test]
fn questions_that_cannot_be_are_named() {
    let library = Library::embedded();
    let refused = |change: &dyn Fn(&mut FindQuestion), part: &str| {
        let mut asked = question(10.0, 1, Wish::Cheapest);
        change(&mut asked);
        let error = find(&library, &asked).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(
        &|q| q.tokens_per_s = 0.0,
        "the rate of each user is 0e0, but must be from 1e-6 to 1e12 tokens per second",
    );
    for tokens in [f64::NAN, f64::INFINITY, -1.0, 1e300, 1e-300] {
        refused(&|q| q.tokens_per_s = tokens, "must be from 1e-6 to 1e12");
    }
    refused(
        &|q| q.accelerators = vec!["lpu3".to_owned()],
        "the accelerator is Groq 3 LPU, but must be one whose power and price are published",
    );
    refused(&|q| q.users = 0, "the number of users is 0");
    refused(&|q| q.model = "gpt-9".to_owned(), "`gpt-9`");
    refused(
        &|q| q.media = vec!["paper".to_owned()],
        "`paper` is no medium",
    );
    refused(&|q| q.accelerators = vec!["abacus".to_owned()], "`abacus`");
    refused(&|q| q.software = "fast".to_owned(), "`fast`");
}

/// What costs nothing for lack of a figure would always be the cheapest.
#[test]
fn an_accelerator_without_a_price_is_left_out_and_named() {
    let library = Library::embedded();
    let mut asked = question(100.0, 1, Wish::Cheapest);
    asked.accelerators = ["lpu3", "lpu"].map(str::to_owned).to_vec();
    asked.media = vec!["hbf".to_owned()];
    let found = find(&library, &asked).expect("it can be asked");
    assert_eq!(found.unpriced, ["Groq 3 LPU"]);
    assert!(
        found
            .machines
            .iter()
            .all(|one| one.accelerator.contains("Groq LPU"))
    );
    let told = find_report(&library, &asked).expect("it can be asked");
    assert!(
        told.notes
            .iter()
            .any(|note| note.contains("published: Groq 3 LPU."))
    );
}

/// What is true of several media is said once, with all of their names.
#[test]
fn media_that_fail_alike_are_named_together() {
    let mut asked = question(1e12, 1, Wish::Cheapest);
    asked.media = ["hbf", "hbm4", "dram"].map(str::to_owned).to_vec();
    asked.accelerators = vec!["b200".to_owned()];
    let told = find_report(&Library::embedded(), &asked).expect("it can be asked");
    let said = told
        .notes
        .iter()
        .filter(|note| note.contains("no machine does it"));
    let said: Vec<&String> = said.collect();
    assert_eq!(said.len(), 1, "{:?}", told.notes);
    assert!(
        ["DDR5", "Flash", "HBM4"]
            .iter()
            .all(|name| said[0].contains(name)),
        "{said:?}"
    );
}
