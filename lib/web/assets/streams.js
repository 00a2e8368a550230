// One event stream for all pages of a browser. Over HTTP/1.1 a browser opens six connections to a
// host, so a stream per page would leave none for loading the next page.
//
// This file runs twice: as a shared worker that holds the stream (the hub), and in each page, which
// talks to the hub. Without shared workers (Android), each page has its own hub. A hidden page
// subscribes to nothing; when it is visible again, it resumes after its last event.
//
//   left4me.follow("changes", "", on)
//   left4me.follow("job:7", "120", on)
//   left4me.follow("console:1", place, on)
//
// `on` has event(name, data, id), open(), lost(refused) and over(why). follow() returns an object
// with close().
//
// Messages from a page to the hub: follow (tag, topic, after), leave (tag), bye, alive. From the
// hub to a page: event, open, lost, over, here, and again if the hub does not know the page.
"use strict";

(() => {
    const TOPICS = 16; // the most topics of a stream, as in streams.rs
    const BEAT = 20000; // ms between two "alive" messages of a page
    const NAMES = ["changed", "stdout", "stderr", "state", "end", "over", "topic"];

    function hub() {
        const pages = new Map(); // function that sends to a page -> { seen, feeds: Map of tag to feed }
        let source = null;
        let live = false;
        let place = "page"; // an unknown position: the first event then reports all as changed since the page was made
        let tries = 0;
        let timer = 0;

        const all = () => [...pages.values()].flatMap((page) => [...page.feeds.values()]);

        function later(ms) {
            clearTimeout(timer);
            timer = setTimeout(connect, ms);
        }

        function hangUp() {
            source?.close();
            source = null;
            live = false;
        }

        function connect() {
            clearTimeout(timer);
            hangUp();
            const feeds = all();
            if (feeds.length === 0) return;
            const logs = feeds.filter((feed) => feed.topic !== "changes" && !feed.over);
            for (const feed of logs.splice(TOPICS)) end(feed, "too many logs and consoles are open in this browser");
            const query = new URLSearchParams({ after: place });
            for (const feed of logs) query.append("follow", `${feed.topic}:${feed.after}`);
            const current = new EventSource(`/live?${query}`);
            source = current;
            let topic = null;
            current.addEventListener("open", () => {
                live = true;
                tries = 0;
                for (const tell of pages.keys()) tell({ say: "open" });
            });
            current.addEventListener("error", () => {
                if (source !== current) return;
                // Reconnect here: EventSource would request its original positions.
                const refused = current.readyState === EventSource.CLOSED;
                hangUp();
                for (const tell of pages.keys()) tell({ say: "lost", refused });
                tries += 1;
                later(Math.min(10000, 1000 * 2 ** (tries - 1)) + Math.random() * 500);
            });
            for (const name of NAMES) {
                current.addEventListener(name, (event) => {
                    if (source !== current) return;
                    if (name === "topic") topic = JSON.parse(event.data);
                    else if (topic === null) changed(event);
                    else if (name === "over") end(logs[topic], JSON.parse(event.data).why);
                    else pass(logs[topic], name, event);
                });
            }
        }

        function changed(event) {
            place = event.lastEventId || place;
            for (const feed of all()) if (feed.topic === "changes") pass(feed, "changed", event);
        }

        function pass(feed, name, event) {
            const id = feed.topic === "changes" ? "" : event.lastEventId;
            feed.after = id || feed.after;
            feed.tell({ say: "event", tag: feed.tag, name, data: event.data, id });
        }

        function end(feed, why) {
            feed.over = true;
            feed.tell({ say: "over", tag: feed.tag, why });
        }

        function follow(tell, { tag, topic, after }) {
            const feed = { tell, tag, topic, after, over: false };
            pages.get(tell).feeds.set(tag, feed);
            if (topic !== "changes" || !source) {
                later(20);
            } else if (live) {
                tell({ say: "open" });
                // Changes since the page was made, before it subscribed.
                if (place !== "page") pass(feed, "changed", { data: '{"all":true}' });
            }
        }

        // Pages often close because the next one opens, so the stream is reduced after a moment.
        function leave(feeds) {
            if (feeds.some((feed) => feed.topic !== "changes" && !feed.over) || all().length === 0) later(1000);
        }

        setInterval(() => {
            for (const [tell, page] of pages) {
                if (Date.now() - page.seen > 3.5 * BEAT) heard(tell, { say: "bye" });
            }
        }, BEAT);

        // A message from a page.
        function heard(tell, message) {
            const page = pages.get(tell) ?? { feeds: new Map() };
            if (message.say === "alive") tell({ say: pages.has(tell) ? "here" : "again" });
            page.seen = Date.now();
            if (message.say === "follow") {
                pages.set(tell, page);
                follow(tell, message);
            } else if (message.say === "leave" && page.feeds.has(message.tag)) {
                const feed = page.feeds.get(message.tag);
                page.feeds.delete(message.tag);
                if (page.feeds.size === 0) pages.delete(tell);
                leave([feed]);
            } else if (message.say === "bye" && pages.delete(tell)) {
                leave([...page.feeds.values()]);
            }
        }
        return heard;
    }

    if (typeof document === "undefined") {
        const heard = hub();
        self.addEventListener("connect", ({ ports: [port] }) => {
            const tell = (message) => port.postMessage(message);
            port.onmessage = (event) => heard(tell, event.data);
        });
        return;
    }

    // ---- in a page ----

    const script = document.currentScript.src;
    const feeds = new Map(); // tag -> subscription: { topic, after, on }
    let tell = null; // function that sends to the hub; null while the page is hidden
    let drop = () => {};
    let answered = true;
    let tags = 0;

    function listen({ say, tag, name, data, id, refused, why }) {
        answered = true;
        const feed = feeds.get(tag);
        if (say === "again") for (const [tag, feed] of feeds) follow(tag, feed);
        else if (say === "open") for (const { on } of [...feeds.values()]) on.open?.();
        else if (say === "lost") for (const { on } of [...feeds.values()]) on.lost?.(refused);
        else if (say === "over") feed?.on.over?.(why);
        else if (say === "event" && feed) {
            feed.after = id || feed.after;
            feed.on.event(name, data, id);
        }
    }

    const follow = (tag, { topic, after }) => tell?.({ say: "follow", tag, topic, after });

    let heard = null; // receives from the page's own hub
    const own = (message) => setTimeout(listen, 0, message);

    function ownHub() {
        heard ??= hub();
        tell = (message) => heard(own, message);
        drop = () => heard(own, { say: "bye" });
    }

    function connect() {
        answered = true;
        if (typeof SharedWorker === "undefined") {
            ownHub();
        } else {
            const worker = new SharedWorker(script);
            // For instance after an upgrade: the new web front does not have this version's file.
            worker.addEventListener("error", () => {
                if (!tell) return;
                ownHub();
                for (const [tag, feed] of feeds) follow(tag, feed);
            });
            worker.port.onmessage = (event) => tell && listen(event.data);
            tell = (message) => worker.port.postMessage(message);
            drop = () => worker.port.postMessage({ say: "bye" });
        }
        for (const [tag, feed] of feeds) follow(tag, feed);
    }

    function disconnect() {
        if (!tell) return;
        drop();
        tell = null;
    }

    let hiding = 0;
    document.addEventListener("visibilitychange", () => {
        clearTimeout(hiding);
        if (document.hidden) hiding = setTimeout(disconnect, 3000);
        else if (!tell) connect();
    });
    addEventListener("pagehide", disconnect);
    setInterval(() => {
        if (!tell || feeds.size === 0) return;
        if (!answered) {
            disconnect();
            connect();
        }
        answered = false;
        tell({ say: "alive" });
    }, BEAT);

    if (!document.hidden) connect();
    window.left4me = {
        follow(topic, after, on) {
            const tag = ++tags;
            feeds.set(tag, { topic, after, on });
            follow(tag, feeds.get(tag));
            return {
                close() {
                    feeds.delete(tag);
                    tell?.({ say: "leave", tag });
                },
            };
        },
    };
})();
