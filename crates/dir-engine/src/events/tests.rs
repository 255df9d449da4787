use super::*;
use futures::FutureExt;
use std::collections::HashSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

fn notice(kind: EventKind, name: &[u8]) -> Notice {
    let labels = vec![format!("/skills/{}", String::from_utf8_lossy(name))].into();
    Notice { seq: None, at: Timestamp(0), kind, cid: Cid::of(name), labels }
}

fn pushed(n: u32) -> Notice {
    notice(EventKind::RecordPushed, n.to_string().as_bytes())
}

struct Test {
    events: Events,
    losses: Arc<Losses>,
    next: u32,
}

impl Test {
    fn new(buffer: usize) -> Self {
        let losses = Arc::new(Losses::default());
        Self { events: Events::new(buffer, EventLogging::default(), losses.clone()), losses, next: 0 }
    }

    /// So many events, which are told together.
    fn emit(&mut self, many: u32) {
        (self.next..self.next + many).for_each(|n| self.events.emit(pushed(n)));
        self.next += many;
        self.events.0.round();
    }

    async fn hear(&self, listener: &mut Listener, range: std::ops::Range<u32>) {
        for n in range {
            assert_eq!(listener.next().await, Some(Ok(pushed(n))));
        }
    }
}

/// Whether nothing is there for a listener.
async fn hears_nothing(listener: &mut Listener) -> bool {
    poll_fn(|cx| Poll::Ready(listener.poll_batch(cx).is_pending())).await
}

#[tokio::test(start_paused = true)]
async fn the_first_event_is_told_at_once_and_what_follows_closely_together() {
    let test = Test::new(100);
    let mut listeners: Vec<Listener> = (0..1_000).map(|_| test.events.listen()).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    test.events.emit(pushed(0));
    for listener in &mut listeners {
        test.hear(listener, 0..1).await;
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "no tick is waited for");
    (1..101).for_each(|n| test.events.emit(pushed(n)));
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 100 {
        let mut together = HashSet::new();
        for listener in &mut listeners {
            let batch = poll_fn(|cx| listener.poll_batch(cx)).await.unwrap();
            together.insert(batch.events().len());
        }
        assert_eq!(together.len(), 1, "all at once");
        sizes.extend(together);
    }
    assert_eq!(sizes, [20; 5], "no more in a round than calls may wait for");
    assert_eq!(test.losses.events.get(), 0);
}

#[tokio::test]
async fn a_batch_is_encoded_once_for_all_who_want_the_same() {
    let mut test = Test::new(100);
    let mut all: Vec<Listener> = (0..10).map(|_| test.events.listen()).collect();
    let only = EventFilter { kinds: Some(vec![EventKind::RecordPushed]), ..EventFilter::default() };
    all.push(test.events.listen_to(only));
    test.emit(3);
    let mut made = 0;
    for listener in &mut all {
        let batch = poll_fn(|cx| listener.poll_batch(cx)).await.unwrap();
        let message = batch.message(|events| {
            made += 1;
            events.iter().flat_map(|told| told.message(|_| Bytes::from_static(b"x"))).collect()
        });
        assert_eq!(&message[..], b"xxx");
    }
    assert_eq!(made, 2, "once for each filter");
}

#[tokio::test(start_paused = true)]
async fn at_the_buffer_nothing_is_lost_and_beyond_it_what_is_new() {
    let mut test = Test::new(4);
    let mut slow = test.events.listen();
    let mut quick = test.events.listen();
    test.emit(3);
    test.hear(&mut quick, 0..3).await;
    test.emit(1);
    test.hear(&mut slow, 0..4).await;
    test.hear(&mut quick, 3..4).await;
    assert_eq!(test.events.0.join(EventFilter::default()).kept(), 0, "what everybody has is kept for nobody");
    for _ in 0..5 {
        test.emit(1);
        test.hear(&mut quick, test.next - 1..test.next).await;
    }
    assert_eq!(test.losses.events.get(), 1, "counted when it happens, whether it is asked for or not");
    // It has what it was behind, and then what comes; the one in between it has not.
    let batch = poll_fn(|cx| slow.poll_batch(cx)).await.unwrap();
    assert_eq!(batch.events().len(), 4);
    test.emit(1);
    test.hear(&mut quick, 9..10).await;
    assert_eq!(batch.events()[0].notice, pushed(4));
    test.hear(&mut slow, 9..10).await;
    assert_eq!(slow.next().now_or_never(), Some(Some(Err(1))));
    assert!(hears_nothing(&mut slow).await && hears_nothing(&mut quick).await);
    assert_eq!(test.losses.events.get(), 1);
}

/// A stuck listener costs what its buffer costs, and takes nothing from others, who share what they have.
#[tokio::test]
async fn a_stuck_listener_keeps_what_came_first() {
    let mut test = Test::new(8);
    let mut stuck = test.events.listen();
    let mut quick = test.events.listen();
    for _ in 0..30 {
        test.emit(3);
        test.hear(&mut quick, test.next - 3..test.next).await;
    }
    assert_eq!(test.events.0.join(EventFilter::default()).kept(), 0);
    assert_eq!(test.losses.events.get(), 90 - 8);
    test.hear(&mut stuck, 0..8).await;
    assert_eq!(stuck.next().await, Some(Err(90 - 8)));
    test.emit(2);
    test.hear(&mut stuck, 90..92).await;
    test.hear(&mut quick, 90..92).await;
    assert_eq!(test.losses.episodes.get(), 1);
    drop(quick);
    test.emit(8);
    drop(stuck);
    let mut late = test.events.listen();
    test.emit(1);
    test.hear(&mut late, 100..101).await;
}

#[tokio::test]
async fn a_burst_above_the_buffer_is_lost_by_all_and_a_rare_event_in_it_by_nobody() {
    let mut test = Test::new(4);
    let mut all = test.events.listen();
    let deletes = EventFilter { kinds: Some(vec![EventKind::RecordDeleted]), ..EventFilter::default() };
    let mut deletes = test.events.listen_to(deletes);
    let gone = notice(EventKind::RecordDeleted, b"gone");
    test.events.emit(gone.clone());
    test.emit(10);
    assert_eq!(all.next().await, Some(Ok(gone.clone())));
    test.hear(&mut all, 0..3).await;
    assert_eq!(all.next().await, Some(Err(7)));
    assert_eq!(deletes.next().await, Some(Ok(gone)));
    assert!(hears_nothing(&mut deletes).await);
    assert_eq!(test.losses.events.get(), 7);
}

#[tokio::test]
async fn what_waits_for_a_round_is_bounded_and_its_loss_is_known_to_all() {
    let mut test = Test::new(100_000);
    let mut all = test.events.listen();
    let most = u32::try_from(hub::WAITING_MAX).unwrap();
    test.emit(most);
    test.hear(&mut all, 0..most).await;
    test.emit(most + 3);
    test.hear(&mut all, most..2 * most).await;
    assert_eq!(all.next().await, Some(Err(3)));
    assert!(hears_nothing(&mut all).await);
}

#[tokio::test]
async fn listeners_hear_nothing_from_before_them_and_end_with_the_engine() {
    let mut test = Test::new(10);
    let mut first = test.events.listen();
    test.events.emit(pushed(0));
    let mut second = test.events.listen();
    test.next = 1;
    test.emit(1);
    test.hear(&mut first, 0..2).await;
    test.hear(&mut second, 1..2).await;
    test.emit(1);
    drop(test.events);
    assert_eq!(first.next().await, Some(Ok(pushed(2))));
    assert_eq!(first.next().await, None);
}

#[tokio::test]
async fn kinds_of_nobody_are_not_built() {
    let events = Events::new(2, EventLogging::default(), Arc::default());
    assert!(!events.wanted(EventKind::RecordPushed));
    let only = EventFilter { kinds: Some(vec![EventKind::RecordPushed]), ..EventFilter::default() };
    let pushes = events.listen_to(only);
    assert!(events.wanted(EventKind::RecordPushed) && !events.wanted(EventKind::RecordPulled));
    let all = events.listen();
    assert!(events.wanted(EventKind::RecordPulled));
    drop(all);
    assert!(!events.wanted(EventKind::RecordPulled));
    drop(pushes);
    assert_eq!(events.listeners(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whoever_keeps_up_hears_everything_in_order_and_no_producer_waits() {
    let events = Arc::new(Test::new(100_000).events);
    let readers: Vec<_> = (0..20)
        .map(|n| {
            let kinds = (n % 2 == 0).then(|| vec![EventKind::RecordPushed]);
            let mut listener = events.listen_to(EventFilter { kinds, ..EventFilter::default() });
            tokio::spawn(async move {
                for n in 0..3_000 {
                    assert_eq!(listener.next().await, Some(Ok(pushed(n))));
                }
            })
        })
        .collect();
    let mut stuck = events.listen();
    // Less than what may wait at once: no round is needed for a producer to go on.
    (0..3_000).for_each(|n| events.emit(pushed(n)));
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
    }
    assert_eq!(stuck.next().await, Some(Ok(pushed(0))));
}

#[tokio::test(start_paused = true)]
async fn an_episode_of_loss_is_one_line_whatever_is_lost_in_it() {
    let mut test = Test::new(2);
    let losses = test.losses.clone();
    let lines = || losses.episodes.get();
    let mut slow = test.events.listen();
    let mut quick = test.events.listen();
    for _ in 0..50 {
        for _ in 0..3 {
            test.emit(1);
            test.hear(&mut quick, test.next - 1..test.next).await;
        }
        test.hear(&mut slow, test.next - 3..test.next - 1).await;
        assert_eq!(slow.next().await, Some(Err(1)));
        assert!(hears_nothing(&mut slow).await);
        assert_eq!(lines(), 1, "catching up for a moment ends no episode");
    }
    assert_eq!(test.losses.events.get(), 50);
    tokio::time::advance(hub::EPISODE_END).await;
    for _ in 0..3 {
        test.emit(1);
        test.hear(&mut quick, test.next - 1..test.next).await;
    }
    assert_eq!(lines(), 2, "it had kept up for a while");
    test.hear(&mut slow, test.next - 3..test.next - 1).await;
    assert_eq!(slow.next().await, Some(Err(1)));
    // Too many at once are nobody's slowness: one line, for all.
    for _ in 0..5 {
        test.emit(10);
        for listener in [&mut slow, &mut quick] {
            test.hear(listener, test.next - 10..test.next - 8).await;
            assert_eq!(listener.next().await, Some(Err(8)));
        }
    }
    assert_eq!(lines(), 3);
    tokio::time::advance(hub::EPISODE_END).await;
    test.emit(3);
    assert_eq!(lines(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_handful_of_listeners_is_told_whatever_it_costs_and_more_are_paced() {
    for (many, paced) in [(hub::UNPACED_LISTENERS, false), (hub::UNPACED_LISTENERS + 1, true)] {
        let test = Test::new(100);
        let mut listeners: Vec<Listener> = (0..many).map(|_| test.events.listen()).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        test.events.pace().spent(Duration::from_secs(3600));
        let begun = tokio::time::Instant::now();
        test.events.emit(pushed(0));
        for listener in &mut listeners {
            test.hear(listener, 0..1).await;
        }
        assert_eq!(begun.elapsed() > Duration::from_millis(500), paced, "{many} listeners");
    }
}
