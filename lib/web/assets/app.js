// On every page: applies changes, updates relative times, and avoids stale forms.
//
// A live region is an element with an id and data-live. <main> says what the page shows:
// data-servers and data-jobs (ids, or * for all), data-queue. /live (streams.js) reports changed
// servers and jobs, and whether something of the fleet did (data-fleet); if the page shows one of them, its URL is fetched again and its regions are
// updated in place. Focus, open <details> and typed text stay. Without this script the pages work,
// but do not update.
//
// An update never turns one action into another under the pointer:
// - In a region every <form> and <details> has an id that names its action (power-7-stop). One is
//   never changed into another: the old one is removed, and the new one is inserted, closed.
// - A region waits while the user types in it, presses a button in it, or has a confirmation open
//   that the new version does not have. It is updated afterwards. If the user presses such an old
//   button, the server decides.
"use strict";

(() => {
    const main = document.getElementById("main");
    const lost = document.getElementById("lost");
    const PAUSE = 1000; // ms between two fetches

    // ---- times ----

    // The reader's clock may be wrong: ages go by the host's, which each page tells.
    let skew = 0;
    function learnClock(page) {
        if (page?.dataset.now) skew = Number(page.dataset.now) - Date.now();
    }
    learnClock(main);

    const units = [[60000, 1000, "s"], [3600000, 60000, "min"], [172800000, 3600000, "h"], [5184000000, 86400000, "d"]];

    // The same texts as in pages/parts.rs.
    function ago(ms, now) {
        const away = Math.abs(now - ms);
        if (away < 5000) return "just now";
        const unit = units.find(([limit]) => away < limit);
        if (!unit) return null;
        const words = `${Math.floor(away / unit[1])} ${unit[2]}`;
        return ms < now ? `${words} ago` : `in ${words}`;
    }

    // Exact times are the host's. Where the reader's clock shows another one, that follows, with its zone's name.
    function addHere(time) {
        const at = new Date(time.dateTime);
        if (time.title.includes("; here ") || Number.isNaN(at.getTime())) return;
        const here = new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19).replace("T", " ");
        if (time.title.includes(here)) return;
        const parts = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(at);
        time.title += `; here ${here} ${parts.find((part) => part.type === "timeZoneName").value}`;
    }

    function refreshTimes() {
        if (document.hidden) return;
        document.querySelectorAll("time[title]").forEach(addHere);
        for (const time of document.querySelectorAll("time[data-ago]")) {
            const words = ago(Date.parse(time.dateTime), Date.now() + skew);
            if (words && time.textContent !== words) time.textContent = words;
        }
    }
    setInterval(refreshTimes, 15000);

    // The same texts as in base/clock.rs: the duration so far.
    function span(ms) {
        const s = Math.max(0, Math.floor(ms / 1000));
        if (s < 60) return `${s} s`;
        if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
        if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
        return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
    }

    function count() {
        if (document.hidden) return;
        for (const time of document.querySelectorAll("time[data-since]")) {
            const words = span(Date.now() + skew - Date.parse(time.dateTime));
            if (time.textContent !== words) time.textContent = words;
        }
    }
    setInterval(count, 1000);

    // ---- regions ----

    const isSecret = (node) => node instanceof HTMLInputElement && node.type === "hidden" && ["csrf", "key"].includes(node.name);
    const isTyped = (node) => node instanceof HTMLElement && node.matches("input:not([type=hidden]), textarea, select");

    // The action of a node: of a form its URL, of a <details> those of its forms.
    function meaning(node) {
        if (node.nodeName === "FORM") return node.getAttribute("action");
        if (node.nodeName === "DETAILS") return [...node.querySelectorAll("form")].map(meaning).join(" ");
        return "";
    }

    // Whether one node can become the other: same kind and action, and the same id if there is one.
    function fits(one, other) {
        return one && one.nodeType === other.nodeType && one.nodeName === other.nodeName
            && (one.id ?? "") === (other.id ?? "") && meaning(one) === meaning(other);
    }

    function morphAttributes(node, fresh) {
        for (const { name, value } of fresh.attributes) {
            if (node.getAttribute(name) !== value) node.setAttribute(name, value);
        }
        for (const { name } of [...node.attributes]) {
            const stays = name === "open" && node instanceof HTMLDetailsElement;
            if (!stays && !fresh.hasAttribute(name)) node.removeAttribute(name);
        }
    }

    // The elements of `fresh`, existing ones in their current order, so that no row moves under the
    // pointer.
    function inPlace(node, fresh) {
        const places = new Map([...node.children].map((child, place) => [child.id, place]));
        const place = (child) => places.get(child.id) ?? places.size;
        return [...fresh.children].sort((one, other) => place(one) - place(other));
    }

    // Makes `node` equal to `fresh`, and touches only what differs.
    function morph(node, fresh) {
        if (node.nodeType !== Node.ELEMENT_NODE) {
            if (node.nodeValue !== fresh.nodeValue) node.nodeValue = fresh.nodeValue;
            return;
        }
        if (node.isEqualNode(fresh)) return;
        const typed = isTyped(node) ? node.value : null;
        morphAttributes(node, fresh);
        if (typed !== null && node.type !== "checkbox" && node.type !== "radio") node.value = typed;
        const children = node.hasAttribute("data-steady") ? inPlace(node, fresh) : [...fresh.childNodes];
        let at = node.firstChild;
        for (const child of children) {
            if (!fits(at, child)) {
                // Something was inserted or removed: check whether it comes later.
                let later = at;
                while (later && !fits(later, child)) later = later.nextSibling;
                if (later && child.id) {
                    while (at !== later) {
                        const gone = at;
                        at = at.nextSibling;
                        gone.remove();
                    }
                } else {
                    node.insertBefore(document.importNode(child, true), at);
                    continue;
                }
            }
            morph(at, child);
            at = at.nextSibling;
        }
        while (at) {
            const gone = at;
            at = at.nextSibling;
            gone.remove();
        }
    }

    // Whether two regions differ in more than what each rendering changes.
    function differs(region, fresh) {
        const plain = (element) => {
            const copy = element.cloneNode(true);
            for (const input of copy.querySelectorAll("input")) if (isSecret(input)) input.removeAttribute("value");
            for (const time of copy.querySelectorAll("time[data-ago], time[data-since]")) time.textContent = time.title = "";
            for (const details of copy.querySelectorAll("details")) details.removeAttribute("open");
            return copy.outerHTML;
        };
        return plain(region) !== plain(fresh);
    }

    let pressed = null; // the element under a pressed pointer
    let waiting = null; // the last fetched page, while a region waits for its update

    // Whether the user is about to use something that the new region would remove.
    function isHeld(region, fresh) {
        if (isTyped(document.activeElement) && region.contains(document.activeElement)) return true;
        if (pressed && region.contains(pressed)) return true;
        return [...region.querySelectorAll("details[open]")].some((open) => {
            if (!open.querySelector("form")) return false;
            return !fits([...fresh.querySelectorAll("details")].find((other) => other.id === open.id), open);
        });
    }

    function renew(page) {
        waiting = null;
        for (const region of document.querySelectorAll("[data-live][id]")) {
            const fresh = page.getElementById(region.id);
            if (!fresh || !differs(region, fresh)) continue;
            if (isHeld(region, fresh)) waiting = page;
            else morph(region, fresh);
        }
        const watch = page.getElementById("main");
        for (const name of ["data-servers", "data-jobs", "data-queue", "data-fleet"]) {
            if (watch?.hasAttribute(name)) main.setAttribute(name, watch.getAttribute(name));
            else main.removeAttribute(name);
        }
        refreshTimes();
        count();
        document.dispatchEvent(new Event("left4me:renewed"));
    }

    // Check after the event whether a waiting region can be updated: the focus moves only after it
    // is lost.
    const letGo = () => setTimeout(() => waiting && renew(waiting));
    document.addEventListener("pointerdown", (event) => { pressed = event.target; });
    for (const end of ["pointerup", "pointercancel"]) {
        // The click comes after this, on a touchscreen with a delay.
        document.addEventListener(end, () => setTimeout(() => {
            pressed = null;
            letGo();
        }, 300));
    }
    document.addEventListener("focusout", letGo);
    document.addEventListener("toggle", letGo, true); // does not bubble

    // ---- input that was lost when the session ended ----

    // Kept only in this tab, without passwords and secrets, and restored for the same user on the
    // same page.
    const KEPT = "left4me:typed";
    const user = document.querySelector(".who a")?.textContent ?? "";
    const stays = (field) => field.name && !isSecret(field) && !["password", "submit", "button"].includes(field.type);
    const isTicked = (field) => ["checkbox", "radio"].includes(field.type);

    function isChanged(field) {
        if (field.type === "hidden") return false;
        if (isTicked(field)) return field.checked !== field.defaultChecked;
        if (field.options) return [...field.options].some((option) => option.selected !== option.defaultSelected);
        return field.value !== field.defaultValue;
    }

    function keep() {
        const forms = [...document.forms].filter((form) => form.method === "post").map((form) => ({
            action: form.getAttribute("action"),
            home: form.dataset.home ?? location.pathname + location.search,
            fields: [...form.elements].filter(stays).map((field) => ({
                name: field.name,
                value: isTicked(field) ? field.checked : field.value,
                changed: isChanged(field) || form.dataset.home !== undefined,
            })),
        }));
        const typed = forms.filter(({ fields }) => fields.some(({ changed }) => changed));
        try {
            sessionStorage.removeItem(KEPT);
            if (typed.length > 0) sessionStorage.setItem(KEPT, JSON.stringify({ user, forms: typed }));
        } catch {
            // The storage is full: the input is not kept, but everything else works.
        }
    }

    function giveBack() {
        const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
        if (!kept) return;
        if (user === "") {
            // The sign-in page: the input was not sent. It is restored where its form is.
            sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, unsent: true }));
            const next = document.querySelector("form[action='/login'] input[name=next]");
            if (next) next.value = kept.forms[0].home;
            return;
        }
        sessionStorage.removeItem(KEPT);
        if (!kept.unsent || kept.user !== user) return;
        let back = false;
        for (const { action, home, fields } of kept.forms) {
            const form = [...document.forms].find((form) => form.getAttribute("action") === action);
            const now = form ? [...form.elements].filter(stays) : [];
            if (home !== (form?.dataset.home ?? location.pathname + location.search) || now.length !== fields.length) continue;
            fields.forEach(({ name, value }, place) => {
                const field = now[place];
                if (field.name !== name) return;
                if (isTicked(field)) field.checked = value;
                else field.value = value;
            });
            form.closest("details")?.setAttribute("open", "");
            back = true;
        }
        if (!back) return;
        const note = document.createElement("p");
        note.className = "note";
        note.setAttribute("role", "status");
        note.textContent = "The session ended before this was sent. Your input was restored: check it and send it again.";
        document.querySelector(".title").after(note);
    }
    if (main) giveBack();

    // ---- changes ----

    let due = false; // something changed since the last fetch started
    let busy = false;

    async function fetchAgain() {
        if (busy || document.hidden) return;
        busy = true;
        due = false;
        try {
            const answer = await fetch(location.href, { headers: { "X-Live": "1" }, cache: "no-store" });
            // Signed out meanwhile, or the server was removed: a full reload shows it better than
            // parts of the page.
            if (answer.redirected || answer.status === 404) {
                keep();
                location.reload();
            }
            else if (answer.ok) {
                const page = new DOMParser().parseFromString(await answer.text(), "text/html");
                learnClock(page.getElementById("main"));
                renew(page);
            }
        } catch {
            due = true; // the stream reports the lost connection
        }
        setTimeout(() => {
            busy = false;
            if (due) fetchAgain();
        }, PAUSE);
    }

    function changed() {
        due = true;
        fetchAgain();
    }

    function concerns(change) {
        if (change.all) return true;
        if (change.queue && main.hasAttribute("data-queue")) return true;
        if (change.fleet && main.hasAttribute("data-fleet")) return true;
        const among = (name, ids) => {
            const shown = (main.getAttribute(name) ?? "").split(" ").filter(Boolean);
            return (ids ?? []).some((id) => shown.includes("*") || shown.includes(String(id)));
        };
        return among("data-servers", change.servers) || among("data-jobs", change.jobs);
    }

    function follow() {
        let wasLost = false;
        let told = 0;
        window.left4me.follow("changes", "", {
            event(name, data) {
                if (concerns(JSON.parse(data))) changed();
            },
            open() {
                clearTimeout(told);
                if (lost) lost.hidden = true;
                if (wasLost) changed(); // fetch what happened meanwhile
                wasLost = false;
            },
            lost(refused) {
                // A server that was restarted is back in a moment, so wait before showing a
                // message.
                if (!wasLost) told = setTimeout(() => { if (lost) lost.hidden = false; }, 5000);
                wasLost = true;
                // Too many streams are open, or the session has ended; the page shows which.
                if (refused) changed();
            },
        });
    }

    if (main && document.querySelector("[data-live]")) {
        follow();
        // The stream reports changes, but not what continues unchanged, like the time of the last
        // poll or points of a graph. A hidden page is updated once it is visible again.
        setInterval(changed, 60000);
    }
    document.addEventListener("visibilitychange", () => {
        refreshTimes();
        if (due) fetchAgain();
    });

    // Browsers ignore autofocus if the URL has a fragment, even if no element has that id: a failed
    // preview.
    if (location.hash && !document.querySelector(":target")) document.querySelector("[autofocus]")?.focus();

    // A page from the back/forward cache has used keys, so its buttons would do nothing.
    addEventListener("pageshow", (event) => {
        if (event.persisted) location.reload();
    });

    // A second click while the first request is running must not send another one.
    document.addEventListener("submit", (event) => {
        if (event.defaultPrevented) return; // a script sends it
        const button = event.submitter;
        const to = event.target.getAttribute("action");
        if (to === "/logout") sessionStorage.clear();
        else if (event.target.method === "post" && to !== "/login") keep();
        if (event.target.method === "post" && button) setTimeout(() => { button.disabled = true; });
    });
})();
