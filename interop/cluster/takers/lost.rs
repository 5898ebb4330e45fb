//! A claim that the next primary knows nothing of.

use crate::{claim, client, keep, process, renew, value};
use anyhow::{bail, ensure};
use webtrunk::cluster::store::{CallWrite, Claim, Keeping, StoreAnswer, StoreCommand};

/// Says how far it is, and waits for a line.
fn said(what: &str) -> anyhow::Result<()> {
    println!("{what}");
    let mut line = String::new();
    ensure!(std::io::stdin().read_line(&mut line)? > 0, "nobody says that it goes on");
    Ok(())
}

pub(crate) async fn run(primary: &str, replica: &str) -> anyhow::Result<()> {
    let (own, taker, other) = (process("a", 1), process("b", 5), process("c", 6));
    let mut store = client(primary, 1).await?;
    renew(&mut store, &own).await?;
    keep(&mut store, &own, &["gone", "stays"]).await?;
    said("kept")?;
    // The replica hears nothing of what follows.
    let forget = CallWrite { name: "gone".into(), value: None };
    let write = |connection, anew, writes| StoreCommand::Keep {
        id: 1,
        owner: own.clone(),
        connection,
        anew,
        writes,
    };
    store.carry_out(write(1, false, vec![forget])).await;
    store.expire_lease("a").await?;
    let granted = claim(&mut store, &own, &taker, 1).await?;
    ensure!(granted == Claim::Granted { names: vec!["stays".into()] }, "{granted:?}");
    ensure!(renew(&mut store, &own).await?, "it was deposed");
    said("claimed")?;
    let mut store = client(replica, 2).await?;
    let late = claim(&mut store, &own, &other, 1).await;
    ensure!(late.is_err(), "by leases that were read before nobody claims: {late:?}");
    ensure!(!renew(&mut store, &own).await?, "this one has lost the claim");
    println!("ok      a claim by a connection of before the failover is refused");
    // The first write of who goes on says all that is true.
    let writes = vec![CallWrite { name: "stays".into(), value: value(2) }];
    let late = store.carry_out(write(1, false, writes.clone())).await;
    ensure!(matches!(late, StoreAnswer::Kept { answer: Err(_), .. }), "nor writes: {late:?}");
    let kept = store.carry_out(write(2, true, writes)).await;
    let StoreAnswer::Kept { answer: Ok(Keeping::Kept), .. } = kept else { bail!("{kept:?}") };
    // Until it knows that it was deposed: it closes its own calls, and nobody gets them twice.
    let closed = claim(&mut store, &own, &own, 2).await?;
    ensure!(closed == Claim::Granted { names: vec!["stays".into()] }, "{closed:?}");
    println!("ok      what was removed before it does not come back");
    store.expire_lease("a").await?;
    let taken = claim(&mut store, &own, &other, 2).await?;
    ensure!(matches!(taken, Claim::Taken { .. }), "{taken:?}");
    ensure!(keep(&mut store, &own, &["stays"]).await? == Keeping::Deposed, "it goes on as another");
    println!("ok      who was deposed closes its calls, and nobody takes them a second time");
    Ok(())
}
