// The log view of a job or a server's console. The page has the last lines; further ones come by a
// stream.
//
//   <pre id="log" data-log="job:7" data-ended (nothing more will come)
//        data-fresh (the stream starts over)
//        data-zone="SINCE MINUTES NAME,…: since when, unix ms, the host is how far ahead of UTC">
//     <span class="line stdout|stderr" data-seq="7">
//       <time title="2026-11-20 21:44:07 CET">21:44:07</time><span class="what">text</span></span>
//
// data-log: the topic for streams.js, job:7 or console:1. data-lines: the URL of a job's lines in
// pages.
//
// Lines are inserted as text, once per frame; the oldest are removed if there are too many. The
// view stays at the end unless the user scrolled up. "Earlier lines" inserts the start of a long
// log above its end, with a mark for the gap. Keys: / searches, n and N go to the next and previous
// match, f follows, g and G go to the start and the end.
"use strict";

(() => {
    const log = document.getElementById("log");
    if (!log?.dataset.log) return;
    const MOST = 5000; // lines kept in the page
    const SPARE = 500; // removed at once, instead of one per new line
    const frame = log.parentElement;
    const head = document.querySelector("[data-log-head]");
    const [search, count, previous, next, only, followButton, state] = ["search", "count", "previous", "next", "only", "follow", "state"]
        .map((name) => head.querySelector(`[data-log-${name}]`));
    const progress = document.querySelector("[data-log-progress]");
    const zones = (log.dataset.zone || "0 0 UTC").split(",").map((one) => one.split(" "));

    // ---- lines ----

    // The host's time, also around a change of its clocks.
    function local(ms) {
        const [, ahead, name] = zones.findLast(([since]) => ms >= since) ?? zones[0];
        return `${new Date(ms + ahead * 60000).toISOString().slice(0, 19).replace("T", " ")} ${name}`;
    }
    let last = Number(log.querySelector("[data-seq]:last-of-type")?.dataset.seq ?? 0);
    let waiting = []; // elements for the next frame
    let left = 0; // lines removed at the top
    let unseen = 0;
    let following = true;
    let gap = null; // the mark between the start of the log and its end

    function element(kind, line) {
        const row = document.createElement("span");
        row.className = `line ${kind}`;
        if (line.seq) row.dataset.seq = line.seq;
        const what = document.createElement("span");
        what.className = "what";
        // The stream has already cleaned it. Anything left must not reverse the text's direction.
        what.textContent = String(line.line ?? "").replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
        if (line.at) {
            const time = document.createElement("time");
            time.title = local(line.at);
            time.textContent = time.title.slice(11, 19);
            row.append(time);
        }
        row.append(what);
        if (line.by) {
            const by = document.createElement("span");
            by.className = "by";
            by.textContent = ` by ${line.by}`;
            row.append(by);
        }
        row.append("\n");
        return row;
    }

    const mark = (words) => element("mark", { line: words });

    function add(kind, line) {
        if (line.seq && !line.dropped) {
            if (line.seq <= last) return;
            last = line.seq;
        }
        if (waiting.length === 0) requestAnimationFrame(flush);
        waiting.push(line.dropped ? mark(line.line) : element(kind, line));
        if (waiting.length > MOST) waiting.splice(0, SPARE); // a hidden page has no frames
        const told = /^\s*Update state \(0x[0-9a-f]+\) (.{1,80}), progress: (\d{1,3}\.\d+) \((\d+) \/ (\d+)\)/i.exec(line.line ?? "");
        if (told && progress) showProgress(told[1].trim(), Math.min(100, told[2]).toFixed(1), Number(told[3]), Number(told[4]));
    }

    // The same texts as in pages/parts.rs.
    function bytes(count) {
        if (count < 1024) return `${count} B`;
        let size = count / 1024;
        let unit = 0;
        for (; size >= 1023.5 && unit < 4; unit++) size /= 1024;
        return `${size.toFixed(size < 9.95 ? 1 : 0)} ${["KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
    }

    // The same texts as in pages/job.rs, which is fetched again now and then.
    function showProgress(phase, percent, done, total) {
        progress.hidden = false;
        progress.querySelector("progress").setAttribute("value", percent);
        progress.querySelector("[data-percent]").textContent = percent;
        progress.querySelector("[data-phase]").textContent = total > 0 ? `${phase}, ${bytes(done)} of ${bytes(total)}` : phase;
    }

    // Removes the oldest lines, but not the start of the log if that is shown.
    function takeOut(lines) {
        const oldest = () => (gap ? gap.nextElementSibling : log.firstElementChild);
        for (let n = lines; n > 0 && oldest(); n--) {
            if (!oldest().classList.contains("mark")) left += 1;
            oldest().remove();
        }
        if (gap) tellGap();
        else log.prepend(mark(`[… ${left} earlier lines are not shown here: download the log to read them …]`));
    }

    function flush() {
        const rows = waiting;
        waiting = [];
        const atEnd = following;
        const before = log.scrollTop;
        for (const row of rows) test(row);
        log.append(...rows);
        const over = log.childElementCount - MOST;
        if (over > 0) {
            const height = log.scrollHeight;
            takeOut(over + SPARE);
            if (!atEnd) log.scrollTop = Math.max(0, before - (height - log.scrollHeight));
        }
        if (atEnd) toEnd();
        else tellUnseen(unseen + rows.length);
        tellCount();
    }

    // ---- following the end ----

    const newer = document.createElement("button");
    newer.type = "button";
    newer.className = "log-new";
    newer.hidden = true;
    newer.addEventListener("click", () => setFollow(true));
    frame.append(newer);

    function tellUnseen(lines) {
        unseen = lines;
        newer.hidden = lines === 0;
        newer.textContent = lines === 1 ? "1 new line ↓" : `${lines} new lines ↓`;
    }

    function toEnd() {
        log.scrollTop = log.scrollHeight;
    }

    function setFollow(on) {
        following = on;
        followButton.setAttribute("aria-pressed", String(on));
        if (on) {
            tellUnseen(0);
            toEnd();
        }
    }
    followButton.addEventListener("click", () => setFollow(!following));
    log.addEventListener("scroll", () => {
        // Our own scrolling stops at the end; only the user's leads away from it.
        const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
        if (atEnd !== following) setFollow(atEnd);
    }, { passive: true });
    addEventListener("resize", () => following && toEnd());

    // ---- search ----

    let words = "";
    let here = null;

    function test(row) {
        const found = words !== "" && row.querySelector(".what").textContent.toLowerCase().includes(words);
        row.classList.toggle("match", found);
        row.hidden = words !== "" && only.getAttribute("aria-pressed") === "true" && !found;
    }

    const matches = () => [...log.getElementsByClassName("match")];

    function tellCount() {
        if (words === "") {
            count.textContent = "";
            return;
        }
        const all = matches();
        const place = all.indexOf(here) + 1;
        count.textContent = all.length === 0 ? "no match" : place > 0 ? `${place} of ${all.length}` : `${all.length} found`;
        previous.disabled = next.disabled = all.length === 0;
    }

    function retest() {
        words = search.value.toLowerCase();
        here?.classList.remove("here");
        here = null;
        for (const row of log.children) test(row);
        tellCount();
        if (following) toEnd();
    }

    function go(step) {
        const all = matches();
        if (all.length === 0) return;
        const from = all.indexOf(here);
        const at = from < 0 ? (step > 0 ? 0 : all.length - 1) : (from + step + all.length) % all.length;
        here?.classList.remove("here");
        here = all[at];
        here.classList.add("here");
        setFollow(false);
        here.scrollIntoView({ block: "center" });
        tellCount();
    }

    let later = 0;
    search.addEventListener("input", () => {
        clearTimeout(later);
        later = setTimeout(retest, 120);
    });
    search.addEventListener("keydown", (event) => {
        if (event.key === "Enter") {
            event.preventDefault();
            if (search.value.toLowerCase() !== words) retest();
            go(event.shiftKey ? -1 : 1);
        } else if (event.key === "Escape") {
            search.value = "";
            retest();
            log.focus();
        }
    });
    previous.addEventListener("click", () => go(-1));
    next.addEventListener("click", () => go(1));
    only.addEventListener("click", () => {
        only.setAttribute("aria-pressed", String(only.getAttribute("aria-pressed") !== "true"));
        retest();
    });

    const keys = {
        "/": () => search.focus(),
        f: () => setFollow(!following),
        g: () => { setFollow(false); log.scrollTop = 0; },
        G: () => setFollow(true),
        n: () => go(1),
        N: () => go(-1),
    };
    document.addEventListener("keydown", (event) => {
        const typing = event.target.closest?.("input, textarea, select");
        if (typing || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
        event.preventDefault();
        keys[event.key]();
    });

    // ---- the start of the log ----

    const HEAD = 2500; // lines of it
    const first = Number(log.querySelector("[data-seq]")?.dataset.seq ?? 1);

    function tellGap() {
        const from = Number(gap.previousElementSibling?.dataset.seq ?? 0) + 1;
        const next = gap.nextElementSibling?.dataset.seq;
        gap.querySelector(".what").textContent = next
            ? `[… lines ${from} to ${next - 1} are not shown here: download the log to read them …]`
            : "[… lines are not shown here: download the log to read them …]";
    }

    // Loads the start of the log page by page, and marks the gap if it does not reach the rest.
    async function showBeginning(button) {
        const rows = [];
        let read = 0;
        try {
            for (let more = true; more && read < HEAD && read + 1 < first;) {
                const answer = await fetch(`${log.dataset.lines}?after=${read}`);
                if (!answer.ok) throw new Error(`status ${answer.status}`);
                const lines = await answer.json();
                for (const line of lines.filter(({ seq }) => seq < first)) rows.push(element(line.stream, line));
                more = lines.length > 0;
                read = lines.at(-1)?.seq ?? read;
            }
        } catch {
            state.textContent = "the start of the log cannot be read, try again";
            button.disabled = false;
            return;
        }
        button.remove();
        for (const row of rows) test(row);
        if (read + 1 < first || left > 0) {
            gap = mark("");
            rows.push(gap);
        }
        // The gap also stands for lines that were removed meanwhile.
        if (left > 0) log.firstElementChild?.remove();
        log.prepend(...rows);
        if (gap) tellGap();
        setFollow(false);
        log.scrollTop = 0;
        tellCount();
    }

    if (first > 1 && log.dataset.lines) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = "Earlier lines";
        button.title = "From line 1";
        button.addEventListener("click", () => {
            button.disabled = true;
            showBeginning(button);
        });
        followButton.before(button);
    }

    // ---- the stream ----

    let followed = null;
    let place = last > 0 ? String(last) : ""; // the position of the last line that has one

    function open() {
        state.textContent = "connecting …";
        // Without a position the stream starts with the last lines, which the page already has.
        let fresh = "fresh" in log.dataset && place === "";
        followed = window.left4me.follow(log.dataset.log, place, {
            event(name, text, id) {
                if (name === "state") return;
                if (name === "end") {
                    followed.close();
                    state.textContent = "complete";
                    return;
                }
                const line = JSON.parse(text);
                if (fresh) {
                    fresh = false;
                    // What command.js added does not come again.
                    const isOwn = (row) => row.classList.contains("typed") || row.classList.contains("reply");
                    for (const row of [...log.children]) if (!isOwn(row)) row.remove();
                    waiting = waiting.filter(isOwn);
                }
                place = id || place;
                add(name, line);
            },
            open() { state.textContent = "live"; },
            lost() { state.textContent = "connection lost, retrying …"; },
            over(why) {
                followed.close();
                state.textContent = why ?? "connection lost";
                setTimeout(open, 10000);
            },
        });
    }

    // For command.js: adds a line of its own, and follows the end.
    window.left4me.log = { add, follow: () => setFollow(true) };

    head.hidden = false;
    previous.disabled = next.disabled = true;
    toEnd();
    if ("ended" in log.dataset) state.textContent = "complete";
    else open();
})();
