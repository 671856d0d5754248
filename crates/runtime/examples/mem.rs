use std::path::Path;
use delayline_runtime::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    println!("start {:?}", Usage::now());
    println!("{}", kernel_features());
    println!("backend {:?}", Usage::now());
    let opt = Options { memory: Some(200<<20), way: Way::Streamed, ctx: Some(512), ubatch: Some(a[2].parse().unwrap()), ..Default::default() };
    let e = Engine::open(Path::new(&a[1]), &opt).unwrap();
    println!("{:?}", e.memory());
    println!("open {:?}", Usage::now());
    for l in std::fs::read_to_string("/proc/self/smaps_rollup").unwrap().lines() { println!("{l}"); }
    let s=std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut name=String::new(); let mut v=vec![];
    for l in s.lines() { if l.contains('-') && l.split_whitespace().next().unwrap().contains('-') && !l.starts_with("VmFlags") { name=l.to_string(); } if let Some(r)=l.strip_prefix("Rss:") { let k:u64=r.trim().split(' ').next().unwrap().parse().unwrap(); v.push((k,name.clone())); } }
    v.sort(); v.reverse(); for (k,n) in v.iter().take(14) { println!("{k} KiB {n}"); }
}
