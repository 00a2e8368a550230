//! Servers move between three Debians, and updates go through them in waves, while what drives them, the machine that
//! takes them in and the cable die in the middle. At the end each server runs in exactly one place.

use serde_json::Value;

use crate::fleet::{CONTROLLER, they_become_a_fleet};
use crate::lab::{Lab, Suite, s, wait_for, wait_until};
use crate::rows::game;

/// Those of ams-1 first.
const SERVERS: [&str; 4] = ["Friday", "Saturday", "Sunday", "Monday"];

/// The hosts of the fleet. fra-1 is the controller, and the engine's one node.
struct Hosts {
    fra: Lab,
    ams: Lab,
    chi: Lab,
}

pub fn servers_move_and_an_update_goes_in_waves_while_machines_die() {
    let network = format!("moves-{}", std::process::id());
    let hosts = Hosts {
        fra: Lab::in_network(Suite::Trixie, &network, CONTROLLER, "nats-server"),
        ams: Lab::in_network(Suite::Bookworm, &network, "10.77.0.102", ""),
        chi: Lab::in_network(Suite::Trixie, &network, "10.77.0.103", ""),
    };
    they_become_a_fleet(&hosts.fra, &[("ams-1", &hosts.ams), ("chi-1", &hosts.chi)]);
    hosts.have_what_servers_need();
    hosts.place_all();

    what_dies_in_the_middle_of_a_drain_is_waited_for(&hosts);
    who_plays_is_waited_for_until_the_deadline(&hosts);
    a_bad_build_stops_at_the_first_wave(&hosts);
    an_abort_takes_back_what_has_not_begun(&hosts);
    a_good_build_goes_through_all_waves(&hosts);
    an_abort_cancels_the_restart_that_waits_for_players(&hosts);
    a_host_that_was_evacuated_stops_what_moved_when_it_returns(&hosts);
}

impl Hosts {
    fn all(&self) -> [(&str, &Lab); 3] {
        [
            ("fra-1", &self.fra),
            ("ams-1", &self.ams),
            ("chi-1", &self.chi),
        ]
    }

    /// The game, the owner, and the same files in an overlay, on each host; the blueprint on the controller.
    #[track_caller]
    fn have_what_servers_need(&self) {
        let installs = self.all().map(|(_, lab)| {
            lab.set("LEFT4ME_ANSWER_SECONDS=30");
            lab.steamcmd("buildid=100 files=4");
            lab.enqueue(&["install"])
        });
        for (_, lab) in self.all() {
            let password = "correct horse 7\n";
            let add = "left4me user add admin --admin --password-stdin";
            lab.run_with("root", &["sh", "-c", add], password)
                .ends_with(0);
            lab.write(
                "/var/lib/left4me/overlays/demo/cfg/fleet.cfg",
                "sv_contact fleet\n",
            );
            lab.ok(&["left4me", "overlay", "add", "demo"]);
        }
        self.fra.write("/root/server.cfg", "hostname \"fleet\"\n");
        self.fra.sh(
            "left4me blueprint create versus --user admin --overlay demo --arg=+map --arg=c1m1_hotel \
             --config-file /root/server.cfg",
        );
        for ((name, lab), job) in self.all().into_iter().zip(installs) {
            assert_eq!(lab.ended(job, 60).state, "succeeded", "{name}");
        }
        wait_for("each host has told of its overlay", s(120), || {
            let shown = self.fra.json(&["left4me", "fleet", "hosts", "--json"]);
            let mut hosts = shown.as_array().expect("a list").iter();
            match hosts.all(|host| host["overlays"]["demo"].is_string()) {
                true => Ok(()),
                false => Err(format!("{shown:#}")),
            }
        });
    }

    /// Friday, Saturday and Sunday on ams-1, Monday on fra-1.
    #[track_caller]
    fn place_all(&self) {
        let begun = SERVERS.map(|server| {
            let host = if server == "Monday" { "fra-1" } else { "ams-1" };
            let place = ["place", server, "--host", host, "--blueprint", "versus"];
            self.begin(&[&place[..], &["--user", "admin"]].concat())
        });
        for rollout in begun {
            self.fra
                .ok(&["left4me", "fleet", "rollouts", &rollout, "--wait"]);
        }
        self.run_in(&[("Friday", "ams-1"), ("Saturday", "ams-1")]);
        self.run_in(&[("Sunday", "ams-1"), ("Monday", "fra-1")]);
    }

    /// Begins a rollout; gives its id.
    #[track_caller]
    fn begin(&self, request: &[&str]) -> String {
        self.fra.ok(&[&["left4me", "fleet"], request].concat())
    }

    /// A rollout as it is now.
    #[track_caller]
    fn rollout(&self, id: &str) -> Value {
        self.fra
            .json(&["left4me", "fleet", "rollouts", id, "--json"])
    }

    /// Waits until the rollout is so.
    #[track_caller]
    fn rollout_comes_to(&self, id: &str, what: &str, seconds: u64, is_so: impl Fn(&Value) -> bool) {
        wait_for(what, s(seconds), || {
            let rollout = self.rollout(id);
            if is_so(&rollout) {
                Ok(())
            } else {
                Err(format!("{rollout:#}"))
            }
        });
    }

    /// Kills what drives the rollouts. systemd starts it again.
    #[track_caller]
    fn driver_is_killed(&self) {
        let unit = "left4me-rollout.service";
        let pid = self.fra.unit(unit, "MainPID");
        assert_ne!(pid, "0", "a driver runs");
        self.fra
            .ok(&["systemctl", "kill", "--signal=SIGKILL", unit]);
        wait_for("another driver runs", s(30), || {
            let now = self.fra.unit(unit, "MainPID");
            match now != "0" && now != pid {
                true => Ok(()),
                false => Err(now),
            }
        });
    }

    /// How a rollout ended that does not succeed, as `--wait` tells it.
    #[track_caller]
    fn ends_badly(&self, id: &str, words: &[&str]) {
        let told = self
            .fra
            .run(&["left4me", "fleet", "rollouts", id, "--wait"])
            .ends_with(1);
        let last = told.stderr.lines().last().unwrap_or_default();
        for word in words {
            assert!(last.contains(word), "'{word}' is told\n{told}");
        }
    }

    /// Panics unless each server runs on its host, by its unit, and nowhere else.
    #[track_caller]
    fn run_in(&self, expected: &[(&str, &str)]) {
        let running: Vec<(String, &str)> = self
            .all()
            .into_iter()
            .flat_map(|(host, lab)| running(lab).into_iter().map(move |server| (server, host)))
            .collect();
        for (server, host) in expected {
            let found: Vec<&str> = running
                .iter()
                .filter(|(name, _)| name == server)
                .map(|(_, host)| *host)
                .collect();
            assert_eq!(found, [*host], "where {server} runs");
        }
    }
}

/// The names of the servers whose units are active.
#[track_caller]
fn running(lab: &Lab) -> Vec<String> {
    let units = lab.sh(
        "systemctl list-units --plain --no-legend --state=active 'left4me-server@*.service' | awk '{ print $1 }'",
    );
    let servers = lab.json(&["left4me", "server", "list", "--json"]);
    let servers = servers.as_array().expect("a list").iter();
    servers
        .filter(|server| {
            let unit = server["unit"].as_str().expect("a unit");
            units.lines().any(|active| active == unit)
        })
        .map(|server| server["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// The number of a server on its host.
#[track_caller]
fn number(lab: &Lab, server: &str) -> u32 {
    let row = lab.server(server);
    let id = row["id"].as_u64().expect("a number");
    u32::try_from(id).expect("a small number")
}

#[track_caller]
fn a_player_joins(lab: &Lab, server: &str) {
    let id = number(lab, server);
    lab.control(id, "join", "Anna\tSTEAM_1:0:11\n");
    plays(lab, server, 1);
}

/// Waits until the host knows how many play.
#[track_caller]
fn plays(lab: &Lab, server: &str, people: u64) {
    wait_for(&format!("{people} on {server}"), s(30), || {
        lab.poll();
        let row = lab.server(server);
        match row["players"] == people {
            true => Ok(()),
            false => Err(format!("{row:#}")),
        }
    });
}

/// How far the move of a server is.
fn step<'a>(rollout: &'a Value, server: &str) -> &'a str {
    let mut moves = rollout["progress"]["moves"]
        .as_array()
        .into_iter()
        .flatten();
    let own = moves.find(|one| one["name"] == server);
    own.and_then(|one| one["step"].as_str()).unwrap_or_default()
}

fn what_dies_in_the_middle_of_a_drain_is_waited_for(hosts: &Hosts) {
    let Hosts { fra, ams, chi } = hosts;
    for server in ["Friday", "Sunday"] {
        a_player_joins(ams, server);
    }
    let pid = |server| ams.main_pid(number(ams, server));
    let before = ["Friday", "Sunday", "Saturday"].map(pid);

    // Saturday has arrived on chi-1, where its start waits: this is the middle.
    chi.ok(&["left4me-job", "pause"]);
    let drain = hosts.begin(&["drain", "ams-1", "--to", "chi-1"]);
    hosts.rollout_comes_to(&drain, "Saturday is on its way", 90, |rollout| {
        step(rollout, "Saturday") == "placing"
    });
    wait_until("chi-1 has taken it in", s(30), || {
        chi.is("left4me server show Saturday")
    });

    hosts.driver_is_killed();
    let boot = chi.boot_id();
    // Nothing is stopped first.
    chi.run(&["systemctl", "reboot", "--force", "--force"]);
    chi.wait_for_boot_after(&boot);
    assert_eq!(
        running(chi),
        Vec::<String>::new(),
        "its start waits, also after a power cut"
    );
    hosts.run_in(&[("Saturday", "ams-1")]);
    assert_eq!(pid("Saturday"), before[2], "it goes on where it was");
    chi.ok(&["left4me-job", "resume"]);
    hosts.rollout_comes_to(&drain, "Saturday has moved", 120, |rollout| {
        step(rollout, "Saturday") == "moved"
    });
    hosts.run_in(&[("Saturday", "chi-1")]);
    chi.answers("Saturday");
    chi.runs(number(chi, "Saturday"), "Saturday");

    // Nothing has happened to those with players, and why is told.
    assert_eq!(["Friday", "Sunday"].map(pid), before[..2]);
    let shown = fra.ok(&["left4me", "fleet", "rollouts", &drain]);
    for server in ["Friday", "Sunday"] {
        let line = format!("'{server}' from ams-1 waiting, 1 person plays");
        assert!(shown.contains(&line), "{line}\n{shown}");
    }

    ams.control(number(ams, "Friday"), "leave", "Anna\n");
    plays(ams, "Friday", 0);
    hosts.rollout_comes_to(&drain, "Friday has moved", 120, |rollout| {
        step(rollout, "Friday") == "moved"
    });
    hosts.run_in(&[("Friday", "chi-1"), ("Sunday", "ams-1")]);

    fra.ok(&["left4me", "fleet", "abort", &drain]);
    hosts.ends_badly(&drain, &["2 of 3 servers moved", "Sunday: aborted"]);
    hosts.run_in(&[("Sunday", "ams-1")]);
}

fn who_plays_is_waited_for_until_the_deadline(hosts: &Hosts) {
    let Hosts { fra, ams, .. } = hosts;
    plays(ams, "Sunday", 1);
    let drain = hosts.begin(&["drain", "ams-1", "--to", "chi-1", "--deadline", "15s"]);
    fra.ok(&["left4me", "fleet", "rollouts", &drain, "--wait"]);
    let rollout = hosts.rollout(&drain);
    let at = |key: &str| rollout[key].as_i64().expect("a time");
    assert!(at("ended_at") - at("created_at") >= 15_000, "{rollout:#}");
    hosts.run_in(&[
        ("Friday", "chi-1"),
        ("Saturday", "chi-1"),
        ("Sunday", "chi-1"),
        ("Monday", "fra-1"),
    ]);
    assert_eq!(running(ams), Vec::<String>::new());

    // What is left there is told as what it is, and is not started.
    let servers = fra.ok(&["left4me", "fleet", "servers", "--host", "ams-1"]);
    assert_eq!(servers.matches("moved to chi-1").count(), 3, "{servers}");
    ams.enqueue_and_wait(&["start", "--server", "Sunday"])
        .ends_with(4)
        .complains_of(&["has moved to chi-1"]);
    fra.ok(&["left4me", "fleet", "uncordon", "ams-1"]);
}

const WAVES: [&str; 9] = [
    "update", "--host", "chi-1", "--host", "fra-1", "--waves", "1,rest", "--soak", "5s",
];

fn a_bad_build_stops_at_the_first_wave(hosts: &Hosts) {
    let Hosts { fra, chi, .. } = hosts;
    chi.steamcmd("buildid=101 files=4 game=crash-on-start");
    fra.steamcmd("buildid=101 files=4");
    let (jobs, pid) = (fra.job_count(), fra.main_pid(number(fra, "Monday")));

    let update = hosts.begin(&WAVES);
    hosts.ends_badly(
        &update,
        &[
            "stopped in wave 1",
            "0 of 2 hosts updated",
            "chi-1: failed",
            "not asked: fra-1",
        ],
    );
    let shown = fra.ok(&["left4me", "fleet", "rollouts", &update]);
    assert!(shown.contains("chi-1: failed"), "{shown}");
    assert_eq!(fra.job_count(), jobs, "fra-1 was not asked");
    assert_eq!(fra.current_build(), 100);
    assert_eq!(fra.main_pid(number(fra, "Monday")), pid);
    wait_until("chi-1 is back on the build before", s(60), || {
        chi.current_build() == 100
    });
    for server in ["Friday", "Saturday", "Sunday"] {
        chi.answers(server);
    }
}

fn an_abort_takes_back_what_has_not_begun(hosts: &Hosts) {
    let Hosts { fra, chi, .. } = hosts;
    chi.steamcmd("buildid=102 files=4");
    let (jobs, pid) = (fra.job_count(), chi.main_pid(number(chi, "Friday")));

    chi.ok(&["left4me-job", "pause"]);
    let update = hosts.begin(&WAVES);
    wait_until("chi-1 has the order", s(30), || {
        chi.is("left4me-job list | grep -q 'queued.*update\\|update.*queued'")
    });
    fra.ok(&["left4me", "fleet", "abort", &update]);
    hosts.ends_badly(
        &update,
        &[
            "aborted",
            "0 of 2 hosts updated",
            "chi-1: cancelled",
            "not asked: fra-1",
        ],
    );
    chi.ok(&["left4me-job", "resume"]);
    assert_eq!(fra.job_count(), jobs, "fra-1 was not asked");
    assert_eq!(chi.current_build(), 100);
    assert_eq!(chi.main_pid(number(chi, "Friday")), pid);
}

/// The build is the one that chi-1 did not download for the update that was aborted.
fn a_good_build_goes_through_all_waves(hosts: &Hosts) {
    let Hosts { fra, chi, .. } = hosts;
    fra.steamcmd("buildid=102 files=4");
    let update = hosts.begin(&WAVES);
    hosts.rollout_comes_to(&update, "the first wave is under way", 30, |rollout| {
        rollout["progress"]["update"]["hosts"]["chi-1"].is_object()
    });
    hosts.driver_is_killed();
    let told = fra.ok(&["left4me", "fleet", "rollouts", &update, "--wait"]);
    assert_eq!(told, "2 of 2 hosts updated");
    for lab in [fra, chi] {
        assert_eq!(lab.current_build(), 102);
    }
    hosts.run_in(&[("Friday", "chi-1"), ("Monday", "fra-1")]);
    chi.answers("Friday");
    fra.answers("Monday");
}

fn an_abort_cancels_the_restart_that_waits_for_players(hosts: &Hosts) {
    let Hosts { fra, chi, .. } = hosts;
    chi.steamcmd("buildid=103 files=4");
    fra.steamcmd("buildid=103 files=4");
    a_player_joins(chi, "Friday");
    let pid = chi.main_pid(number(chi, "Friday"));

    let update = hosts.begin(&[&WAVES[..], &["--when-empty"]].concat());
    // The others are empty, and restart.
    let restarts = "SELECT state, count(*) FROM jobs WHERE roll_of IS NOT NULL AND build IS NULL
                    AND id > (SELECT max(id) FROM jobs WHERE build = 103) GROUP BY state ORDER BY state";
    wait_for("Friday's restart is the last that waits", s(90), || {
        let seen = chi.sql(restarts);
        match seen == "queued|1\nsucceeded|2" {
            true => Ok(()),
            false => Err(seen),
        }
    });
    fra.ok(&["left4me", "fleet", "abort", &update]);
    hosts.ends_badly(
        &update,
        &[
            "aborted",
            "chi-1: has the new build; 1 restart that waited was cancelled",
            "not asked: fra-1",
        ],
    );
    assert_eq!(chi.sql(restarts), "cancelled|1\nsucceeded|2");
    assert_eq!(chi.main_pid(number(chi, "Friday")), pid, "they play on");
    assert_eq!(fra.current_build(), 102);
}

fn a_host_that_was_evacuated_stops_what_moved_when_it_returns(hosts: &Hosts) {
    let Hosts { fra, ams, chi } = hosts;
    let marker = format!("{}/cfg/written.cfg", game(number(chi, "Friday")));
    chi.sh(&format!("echo kept >{marker}"));
    chi.cable(false);

    let evacuate = "left4me fleet evacuate chi-1 --it-is-dead --to ams-1";
    fra.run(&["sh", "-c", evacuate])
        .ends_with(4)
        .complains_of(&["chi-1 was heard of", "left4me fleet drain chi-1"]);
    five_minutes_pass(fra);
    let evacuation = fra.sh(evacuate);
    fra.ok(&["left4me", "fleet", "rollouts", &evacuation, "--wait"]);
    let moved = ["Friday", "Saturday", "Sunday"];
    let sorted = |lab: &Lab| {
        let mut names = running(lab);
        names.sort();
        names
    };
    assert_eq!(sorted(ams), moved);
    assert_eq!(sorted(chi), moved, "it is alive, which is not known");
    let servers = fra.ok(&["left4me", "fleet", "servers", "--host", "chi-1"]);
    assert_eq!(servers.matches("unknown since").count(), 3, "{servers}");

    chi.cable(true);
    wait_until("chi-1 has stopped what moved", s(90), || {
        running(chi).is_empty()
    });
    hosts.run_in(&moved.map(|server| (server, "ams-1")));
    hosts.run_in(&[("Monday", "fra-1")]);
    assert!(
        chi.is("grep -rqs kept /var/lib/left4me/runtime/*/upper/left4dead2/cfg/written.cfg"),
        "the files of a server that moved away stay"
    );
}

/// For the controller: it has been connected for longer than five minutes, and chi-1 has told nothing for as long.
#[track_caller]
fn five_minutes_pass(fra: &Lab) {
    fra.sql(
        "UPDATE fleet_hosts SET status_received_at = status_received_at - 301000 WHERE name = 'chi-1';
         UPDATE fleet_self SET connected_since = connected_since - 301000",
    );
}
