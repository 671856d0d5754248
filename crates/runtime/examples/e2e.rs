use std::path::Path; use std::ops::ControlFlow;
use delayline_runtime::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let way = match a[2].as_str() {"s"=>Way::Streamed,"m"=>Way::Mmap,"n"=>Way::Native,_=>Way::Auto};
    let mem: u64 = a[3].parse().unwrap();
    let n: usize = a[4].parse().unwrap();
    let opt = Options { memory: Some(mem<<20), way, ctx: Some(512), ubatch: a.get(5).map(|x|x.parse().unwrap()), ..Default::default() };
    let t=std::time::Instant::now();
    let engine = match Engine::open(Path::new(&a[1]), &opt) { Ok(e)=>e, Err(e)=>{eprintln!("{e}"); std::process::exit(1)} };
    println!("open {:?} {:?} ubatch {}", t.elapsed(), engine.memory(), engine.ubatch());
    println!("usage {:?}", Usage::now());
    let mut s = Session::new(engine);
    let toks = s.vocab().tokenize("The capital of France is Paris. The history of this city began when a fisherman came to the small island and", true, false).unwrap();
    let g = s.generate(&toks, n, &Sampling{temperature:0.0,..Default::default()}, |p| { print!("{p}"); use std::io::Write; let _=std::io::stdout().flush(); ControlFlow::Continue(()) }).unwrap();
    println!("\n{:?} first {:.3} rate {:?}", g.tokens, g.first_token_s, g.decode_tokens_per_s());
    println!("{:?}", s.engine().laps());
    if let Some(st)=s.engine().stream() { println!("{:?} per lap {} window {} resident {} runs {}", st.line().counters(), st.bytes_per_lap(), st.window(), st.resident_bytes(), st.itinerary().plan.runs.len()); println!("items {:?}", st.item_hits()); }
    println!("usage {:?}", Usage::now());
}
