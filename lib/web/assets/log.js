// The view of a log: of a job, of a server's console. The page has the last lines; from there on they come by a stream.
//
//   <pre id="log" data-log="URL of the stream" data-ended (nothing more will come) data-fresh (the stream begins anew)
//        data-ahead="minutes that the host's clock is ahead of UTC">
//     <span class="line stdout|stderr" data-seq="7"><time>21:44:07</time><span class="what">text</span></span>
//
// Lines are put in as text, once per frame, and the oldest go when there are too many. The end stays in sight unless the
// reader scrolled up. Keys: / searches, n and N go to the next and previous match, f follows, g and G go to both ends.
"use strict";

(() => {
    const log = document.getElementById("log");
    if (!log?.dataset.log) return;
    const MOST = 5000; // lines that stay in the page
    const SPARE = 500; // so many go at once: not one for each that comes
    const frame = log.parentElement;
    const head = document.querySelector("[data-log-head]");
    const [search, count, previous, next, only, followButton, state] = ["search", "count", "previous", "next", "only", "follow", "state"]
        .map((name) => head.querySelector(`[data-log-${name}]`));
    const progress = document.querySelector("[data-log-progress]");
    const ahead = Number(log.dataset.ahead ?? 0) * 60000;

    // ---- lines ----

    const clock = (ms) => new Date(ms + ahead).toISOString().slice(11, 19);
    let last = Number(log.querySelector("[data-seq]:last-of-type")?.dataset.seq ?? 0);
    let waiting = []; // elements for the next frame
    let left = 0; // lines that were taken out at the top
    let unseen = 0;
    let following = true;

    function element(kind, line) {
        const row = document.createElement("span");
        row.className = `line ${kind}`;
        if (line.seq) row.dataset.seq = line.seq;
        const what = document.createElement("span");
        what.className = "what";
        // The stream has cleaned it already; what is still no text must not turn the line around.
        what.textContent = String(line.line ?? "").replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
        if (line.at) {
            const time = document.createElement("time");
            time.textContent = clock(line.at);
            row.append(time);
        }
        row.append(what, "\n");
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

    // The same words as pages/parts.rs.
    function bytes(count) {
        if (count < 1024) return `${count} B`;
        let size = count / 1024;
        let unit = 0;
        for (; size >= 1023.5 && unit < 4; unit++) size /= 1024;
        return `${size.toFixed(size < 9.95 ? 1 : 0)} ${["KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
    }

    // The same words as pages/job.rs: the page itself is fetched again now and then.
    function showProgress(phase, percent, done, total) {
        progress.hidden = false;
        progress.querySelector("progress").setAttribute("value", percent);
        progress.querySelector("[data-percent]").textContent = percent;
        progress.querySelector("[data-phase]").textContent = total > 0 ? `${phase}, ${bytes(done)} of ${bytes(total)}` : phase;
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
            for (let n = over + SPARE; n > 0 && log.firstElementChild; n--) {
                left += 1;
                log.firstElementChild.remove();
            }
            log.prepend(mark(`[… ${left} earlier lines are not shown here: download the log to read them …]`));
            if (!atEnd) log.scrollTop = Math.max(0, before - (height - log.scrollHeight));
        }
        if (atEnd) toEnd();
        else tellUnseen(unseen + rows.length);
        tellCount();
    }

    // ---- the end in sight ----

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
        // Our own scrolling ends at the end: only the reader's leads away from it.
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

    // ---- the stream ----

    let source = null;

    function open() {
        const url = new URL(log.dataset.log, location.href);
        if (last > 0) url.searchParams.set("after", last);
        state.textContent = "connecting …";
        source = new EventSource(url);
        const current = source;
        for (const kind of ["stdout", "stderr", "line"]) {
            current.addEventListener(kind, (event) => {
                if ("fresh" in log.dataset) {
                    // The stream begins with the last lines itself: those of the page are the same.
                    delete log.dataset.fresh;
                    log.replaceChildren();
                }
                add(kind === "line" ? "stdout" : kind, JSON.parse(event.data));
            });
        }
        current.addEventListener("open", () => { state.textContent = "live"; });
        current.addEventListener("end", () => {
            current.close();
            state.textContent = "complete";
        });
        current.addEventListener("error", () => {
            if (current.readyState !== EventSource.CLOSED) {
                state.textContent = "connection lost, trying again …"; // by itself, with Last-Event-ID
            } else {
                state.textContent = "connection lost";
                setTimeout(() => current === source && open(), 10000);
            }
        });
        addEventListener("pagehide", () => current.close());
    }

    head.hidden = false;
    previous.disabled = next.disabled = true;
    toEnd();
    const first = Number(log.querySelector("[data-seq]")?.dataset.seq ?? 1);
    if (first > 1) {
        const more = document.createElement("button");
        more.type = "button";
        more.textContent = "Earlier lines";
        more.title = `From the beginning, at most ${MOST}`;
        more.addEventListener("click", () => {
            source?.close();
            more.remove();
            last = 0;
            log.replaceChildren();
            open();
        });
        followButton.before(more);
    }
    if ("ended" in log.dataset) state.textContent = "complete";
    else open();
})();
