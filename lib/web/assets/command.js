// The input line under a server's console. It sends commands by the API and shows their replies
// among the lines of log.js; without it the form works as any other.
//
//   <form id="command" data-server="7" data-who="web:anna" data-commands="status,say,…"
//        data-before-maps="changelevel,…" data-maps="c1m1_hotel,…">
//
// Keys: up and down go through the commands of this tab, Tab completes. Where Tab has nothing to
// add it moves on, as everywhere.
"use strict";

(() => {
    const form = document.getElementById("command");
    const log = window.left4me?.log;
    if (!form || !log) return;
    const KEPT = 100; // commands
    const input = form.elements.command;
    const button = form.querySelector("button");
    const state = form.querySelector("[data-command-state]");
    const { server, who } = form.dataset;
    const [commands, beforeMaps, maps] = ["commands", "beforeMaps", "maps"].map((name) => form.dataset[name].split(","));

    // ---- history ----

    const key = `left4me-commands:${who}:${server}`;

    function stored() {
        try {
            const kept = JSON.parse(sessionStorage.getItem(key) ?? "[]");
            return Array.isArray(kept) ? kept.filter((one) => typeof one === "string") : [];
        } catch {
            return [];
        }
    }
    const past = stored();
    let place = past.length; // past.length: the draft
    let draft = "";

    function remember(command) {
        if (past.at(-1) !== command) past.push(command);
        if (past.length > KEPT) past.shift();
        place = past.length;
        draft = "";
        try {
            sessionStorage.setItem(key, JSON.stringify(past));
        } catch {
            // Full, or not allowed: this page still has it.
        }
    }

    function go(step) {
        const to = place + step;
        if (to < 0 || to > past.length) return;
        if (place === past.length) draft = input.value;
        place = to;
        input.value = past[to] ?? draft;
        input.setSelectionRange(input.value.length, input.value.length);
    }

    // ---- completion ----

    function candidates(text) {
        const map = /^(\S+)\s+(\S*)$/.exec(text);
        if (map && beforeMaps.includes(map[1].toLowerCase())) {
            return maps.filter((one) => one.startsWith(map[2].toLowerCase())).map((one) => `${map[1]} ${one}`);
        }
        const own = past.filter((one) => one.startsWith(text));
        return text === "" ? [] : [...new Set([...commands.filter((one) => one.startsWith(text.toLowerCase())), ...own])];
    }

    function common(all) {
        let length = all[0].length;
        for (const one of all) while (!one.startsWith(all[0].slice(0, length))) length--;
        return all[0].slice(0, length);
    }

    // Whether there was something to add or to show.
    function complete() {
        const text = input.value;
        const all = input.selectionStart === text.length ? candidates(text) : [];
        if (all.length === 0) return false;
        const longest = all.length === 1 ? all[0] : common(all);
        if (longest.length > text.length) {
            input.value = longest;
            if (all.length === 1) state.textContent = "";
            else show(all);
            return true;
        }
        return all.length > 1 && show(all);
    }

    function show(all) {
        const words = all.slice(0, 12).map((one) => one.split(" ").at(-1)).join("  ") + (all.length > 12 ? "  …" : "");
        if (state.textContent === words) return false;
        state.textContent = words;
        return true;
    }

    input.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.isComposing) return;
        if (event.key === "ArrowUp" || event.key === "ArrowDown") {
            event.preventDefault();
            go(event.key === "ArrowUp" ? -1 : 1);
        } else if (event.key === "Tab" && complete()) {
            event.preventDefault();
        }
    });

    // ---- sending ----

    const STOPPED = "the page's session has ended: reload the page";

    async function ask(command) {
        const answer = await fetch(`/api/servers/${server}/command`, {
            method: "POST",
            headers: { "Content-Type": "application/json", "X-CSRF-Token": form.elements.csrf.value },
            body: JSON.stringify({ command }),
        });
        const told = await answer.json().catch(() => ({}));
        if (answer.status === 401 || answer.status === 403) throw new Error(STOPPED);
        if (!answer.ok) {
            const problem = new Error(told.message ?? `status ${answer.status}`);
            problem.wasSent = answer.status === 502;
            throw problem;
        }
        return told;
    }

    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        const command = input.value.trim();
        if (command === "" || button.disabled) return;
        button.disabled = true;
        state.textContent = "waiting for the reply …";
        remember(command);
        input.value = "";
        log.follow();
        log.add("typed", { line: `> ${command}`, by: who, at: Date.now() });
        try {
            const { reply, cut } = await ask(command);
            const lines = reply.split("\n");
            if (lines.at(-1) === "") lines.pop();
            for (const line of lines) log.add("reply", { line });
            if (cut) log.add("mark", { line: "[the reply was longer: this is its beginning]" });
            state.textContent = lines.length === 0 ? "sent; the game replied nothing" : "";
        } catch (error) {
            const isLost = error instanceof TypeError;
            const why = isLost ? "left4me does not answer; the command may have been carried out" : error.message;
            log.add("stderr", { line: why });
            // A command that may have been sent is not offered again: one more Enter would send it twice.
            const wasSent = isLost || error.wasSent;
            state.textContent = wasSent ? "no reply" : "that did not work";
            if (!wasSent && input.value === "") input.value = command;
        }
        button.disabled = false;
    });
})();
