PRAGMA user_version = 15;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    is_admin      INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    disabled_at   INTEGER
) STRICT;
INSERT INTO users VALUES(1,'admin','$argon2id$v=19$m=19456,t=2,p=1$iXMw2/75w6b2KhFS453JHw$btJtrFnJTKA9/jBjd/r58prWi4pd22o5SsMR/yzxTbc',1,1796004867165,1796004867165,NULL);
INSERT INTO users VALUES(2,'anna','$argon2id$v=19$m=19456,t=2,p=1$ymzGYoXCJhsBw65Alm3aPw$lqRJCWHbfk84QlfIBkIbvRw8QnuFD7HxyeGoJDZV324',0,1796004867260,1796004867260,NULL);
CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE TABLE sessions (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT;
CREATE TABLE overlays (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    ref        TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO overlays VALUES(1,'demo','demo',1796004867365);
INSERT INTO overlays VALUES(2,'competitive','competitive',1796004867373);
CREATE TABLE blueprints (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    INTEGER NOT NULL REFERENCES users (id),
    name       TEXT    NOT NULL,
    arguments  TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(arguments) = 'array'),
    config     TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(config) = 'array'),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (user_id, name)
) STRICT;
INSERT INTO blueprints VALUES(1,2,'versus','["+map","c1m1_hotel"]','["hostname \"first name\"","sv_steamgroup_exclusive 0","sv_max_queries_sec 1000","sv_max_queries_sec_global 1000"]',1796004867378,1796004867378);
CREATE TABLE blueprint_overlays (
    blueprint_id INTEGER NOT NULL REFERENCES blueprints (id) ON DELETE CASCADE,
    position     INTEGER NOT NULL CHECK (position >= 0),
    overlay_id   INTEGER NOT NULL REFERENCES overlays (id),
    PRIMARY KEY (blueprint_id, position),
    UNIQUE (blueprint_id, overlay_id)
) STRICT, WITHOUT ROWID;
INSERT INTO blueprint_overlays VALUES(1,0,1);
INSERT INTO blueprint_overlays VALUES(1,1,2);
CREATE TABLE servers (
    id                      INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id                 INTEGER NOT NULL REFERENCES users (id),
    name                    TEXT    NOT NULL,
    port                    INTEGER NOT NULL UNIQUE CHECK (port BETWEEN 1 AND 65535),
    blueprint_id            INTEGER NOT NULL REFERENCES blueprints (id),
    desired_state           TEXT    NOT NULL DEFAULT 'stopped' CHECK (desired_state IN ('running', 'stopped')),
    actual_state            TEXT    NOT NULL DEFAULT 'unknown'
        CHECK (actual_state IN ('running', 'starting', 'stopping', 'stopped', 'failed', 'unknown')),
    actual_sub_state        TEXT,
    actual_state_updated_at INTEGER,
    enabled                 INTEGER CHECK (enabled IN (0, 1)),
    last_error              TEXT,
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL, version INTEGER NOT NULL DEFAULT 1, actual_since INTEGER, last_end TEXT, restarts INTEGER NOT NULL DEFAULT 0, active_enter_us INTEGER NOT NULL DEFAULT 0, exit_us INTEGER NOT NULL DEFAULT 0, restart_unresponsive INTEGER NOT NULL DEFAULT 0
    CHECK (restart_unresponsive IN (0, 1)), drift TEXT
    CHECK (drift IN ('down', 'up', 'enabled', 'disabled', 'crashing', 'unresponsive')), drift_since INTEGER CHECK ((drift_since IS NULL) = (drift IS NULL)), drift_why TEXT CHECK (drift_why IS NULL OR drift IS NOT NULL),
    UNIQUE (user_id, name)
) STRICT;
INSERT INTO servers VALUES(1,2,'Friday',27000,1,'running','running','running',1796004907361,1,NULL,1796004867381,1796004867854,4,1796004868245,NULL,0,1616476086,0,0,NULL,NULL,NULL);
INSERT INTO servers VALUES(2,2,'Saturday',27001,1,'running','running','running',1796004907361,1,NULL,1796004867387,1796004867854,4,1796004868291,NULL,0,1616521807,0,0,NULL,NULL,NULL);
INSERT INTO servers VALUES(3,2,'Resting',27002,1,'stopped','stopped','dead',1796004907359,0,NULL,1796004867391,1796004867391,2,1796004868382,NULL,0,0,0,0,NULL,NULL,NULL);
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    operation    TEXT    NOT NULL,
    state        TEXT    NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')),
    requested_by TEXT    NOT NULL,
    user_id      INTEGER REFERENCES users (id) ON DELETE SET NULL,
    retry_of     INTEGER REFERENCES jobs (id) ON DELETE SET NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    exit_code    INTEGER,
    error        TEXT,
    worker_id    TEXT, on_hold INTEGER NOT NULL DEFAULT 0
    CHECK (on_hold IN (0, 1) AND (on_hold = 0 OR state = 'queued')), result TEXT,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (exit_code IS NOT NULL)),
    CHECK (state <> 'queued' OR (started_at IS NULL AND worker_id IS NULL)),
    CHECK (state NOT IN ('running', 'cancelling') OR (started_at IS NOT NULL AND worker_id IS NOT NULL))
) STRICT;
INSERT INTO jobs VALUES(1,'install','succeeded','root',NULL,NULL,1796004867403,1796004867822,1796004867404,1796004867822,0,NULL,'201-1796004866488',0,NULL);
INSERT INTO jobs VALUES(2,'start','succeeded','root',NULL,NULL,1796004867854,1796004871292,1796004867857,1796004871292,0,NULL,'201-1796004866488',0,NULL);
INSERT INTO jobs VALUES(3,'initialize','succeeded','root',NULL,NULL,1796004871332,1796004871398,1796004871345,1796004871398,0,NULL,'201-1796004866488',0,NULL);
INSERT INTO jobs VALUES(4,'check','succeeded','root',NULL,NULL,1796004871408,1796004871858,1796004871421,1796004871858,0,NULL,'201-1796004866488',0,'build 100 is current, published 2025-11-19 09:12:14 UTC');
CREATE TABLE job_targets (
    job_id    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    server_id INTEGER NOT NULL,
    PRIMARY KEY (job_id, server_id)
) STRICT, WITHOUT ROWID;
INSERT INTO job_targets VALUES(2,1);
INSERT INTO job_targets VALUES(2,2);
INSERT INTO job_targets VALUES(3,3);
CREATE TABLE tasks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL CHECK (position >= 0),
    kind        TEXT    NOT NULL,
    server_id   INTEGER,
    state       TEXT    NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'skipped')),
    started_at  INTEGER,
    finished_at INTEGER,
    exit_code   INTEGER,
    error       TEXT,
    was_running INTEGER CHECK (was_running IN (0, 1)), waived INTEGER NOT NULL DEFAULT 0 CHECK (waived IN (0, 1)),
    UNIQUE (job_id, position),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at IS NOT NULL)),
    CHECK (state NOT IN ('running', 'cancelling', 'succeeded', 'failed') OR started_at IS NOT NULL)
) STRICT;
INSERT INTO tasks VALUES(1,1,0,'install-runtime',NULL,'succeeded',1796004867404,1796004867822,0,NULL,NULL,0);
INSERT INTO tasks VALUES(2,2,0,'initialize',1,'succeeded',1796004867857,1796004867860,0,NULL,NULL,0);
INSERT INTO tasks VALUES(3,2,1,'start',1,'succeeded',1796004867860,1796004871286,0,NULL,NULL,0);
INSERT INTO tasks VALUES(4,2,2,'initialize',2,'succeeded',1796004867857,1796004867954,0,NULL,NULL,0);
INSERT INTO tasks VALUES(5,2,3,'start',2,'succeeded',1796004867954,1796004871292,0,NULL,NULL,0);
INSERT INTO tasks VALUES(6,3,0,'initialize',3,'succeeded',1796004871345,1796004871398,0,NULL,NULL,0);
INSERT INTO tasks VALUES(7,4,0,'check-build',NULL,'succeeded',1796004871421,1796004871858,0,NULL,NULL,0);
CREATE TABLE task_dependencies (
    task_id    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    depends_on INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    needs      TEXT    NOT NULL DEFAULT 'success' CHECK (needs IN ('success', 'end')),
    PRIMARY KEY (task_id, depends_on),
    CHECK (depends_on < task_id)
) STRICT, WITHOUT ROWID;
INSERT INTO task_dependencies VALUES(3,2,'success');
INSERT INTO task_dependencies VALUES(5,4,'success');
CREATE TABLE runners (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    verb       TEXT    NOT NULL,
    unit       TEXT,
    pid        INTEGER,
    cgroup     TEXT,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    exit_code  INTEGER,
    ended_by   TEXT CHECK (ended_by IN ('exit', 'terminate', 'kill', 'lost')),
    tree       TEXT CHECK (tree IN ('empty', 'left')), cancellation_id INTEGER REFERENCES cancellations (id) ON DELETE SET NULL,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
) STRICT;
INSERT INTO runners VALUES(1,1,'install','left4me-runner@0-201-997.service',249,'/l4d2.slice/l4d2-build.slice/left4me-runner@0-201-997.service',1796004867409,1796004867822,0,'exit','empty',NULL);
INSERT INTO runners VALUES(2,3,'enable','left4me-helper@1-201-997.service',263,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@1-201-997.service',1796004867861,1796004868286,0,'exit','empty',NULL);
INSERT INTO runners VALUES(3,5,'enable','left4me-helper@1-201-997.service',263,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@1-201-997.service',1796004867955,1796004868292,0,'exit','empty',NULL);
INSERT INTO runners VALUES(4,7,'check','left4me-runner@1-201-997.service',308,'/l4d2.slice/l4d2-build.slice/left4me-runner@1-201-997.service',1796004871425,1796004871857,0,'exit','empty',NULL);
CREATE TABLE job_logs (
    job_id  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL CHECK (seq >= 1),
    at      INTEGER NOT NULL,
    stream  TEXT    NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    task_id INTEGER,
    line    TEXT    NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO job_logs VALUES(1,1,1796004867800,'stdout',1,'Redirecting stderr to ''/var/lib/left4me/steam/Steam/logs/stderr.txt''');
INSERT INTO job_logs VALUES(1,2,1796004867800,'stdout',1,'Logging directory: ''/var/lib/left4me/steam/Steam/logs''');
INSERT INTO job_logs VALUES(1,3,1796004867800,'stdout',1,'[  0%] Checking for available updates...');
INSERT INTO job_logs VALUES(1,4,1796004867800,'stdout',1,'[----] Verifying installation...');
INSERT INTO job_logs VALUES(1,5,1796004867800,'stdout',1,'UpdateUI: skip show logo');
INSERT INTO job_logs VALUES(1,6,1796004867800,'stdout',1,'Steam Console Client (c) Valve Corporation - version 1785186678');
INSERT INTO job_logs VALUES(1,7,1796004867800,'stdout',1,'-- type ''quit'' to exit --');
INSERT INTO job_logs VALUES(1,8,1796004867800,'stdout',1,'Loading Steam API...OK');
INSERT INTO job_logs VALUES(1,9,1796004867800,'stdout',1,'');
INSERT INTO job_logs VALUES(1,10,1796004867800,'stdout',1,'Connecting anonymously to Steam Public...OK');
INSERT INTO job_logs VALUES(1,11,1796004867800,'stdout',1,'Waiting for client config...OK');
INSERT INTO job_logs VALUES(1,12,1796004867800,'stdout',1,'Waiting for user info...OK');
INSERT INTO job_logs VALUES(1,13,1796004867800,'stdout',1,'Unloading Steam API...OK');
INSERT INTO job_logs VALUES(1,14,1796004867803,'stdout',1,'Redirecting stderr to ''/var/lib/left4me/steam/Steam/logs/stderr.txt''');
INSERT INTO job_logs VALUES(1,15,1796004867803,'stdout',1,'Logging directory: ''/var/lib/left4me/steam/Steam/logs''');
INSERT INTO job_logs VALUES(1,16,1796004867803,'stdout',1,'[  0%] Checking for available updates...');
INSERT INTO job_logs VALUES(1,17,1796004867803,'stdout',1,'[----] Verifying installation...');
INSERT INTO job_logs VALUES(1,18,1796004867803,'stdout',1,'UpdateUI: skip show logo');
INSERT INTO job_logs VALUES(1,19,1796004867803,'stdout',1,'Steam Console Client (c) Valve Corporation - version 1785186678');
INSERT INTO job_logs VALUES(1,20,1796004867803,'stdout',1,'-- type ''quit'' to exit --');
INSERT INTO job_logs VALUES(1,21,1796004867803,'stdout',1,'Loading Steam API...OK');
INSERT INTO job_logs VALUES(1,22,1796004867803,'stdout',1,'');
INSERT INTO job_logs VALUES(1,23,1796004867803,'stdout',1,'Connecting anonymously to Steam Public...OK');
INSERT INTO job_logs VALUES(1,24,1796004867803,'stdout',1,'Waiting for client config...OK');
INSERT INTO job_logs VALUES(1,25,1796004867803,'stdout',1,'Waiting for user info...OK');
INSERT INTO job_logs VALUES(1,26,1796004867803,'stdout',1,' Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)');
INSERT INTO job_logs VALUES(1,27,1796004867803,'stdout',1,' Update state (0x61) downloading, progress: 45.32 (3905867119 / 8618418181)');
INSERT INTO job_logs VALUES(1,28,1796004867803,'stdout',1,' Update state (0x61) downloading, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,29,1796004867803,'stdout',1,' Update state (0x101) committing, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,30,1796004867804,'stdout',1,'Success! App ''222860'' fully installed.');
INSERT INTO job_logs VALUES(1,31,1796004867804,'stdout',1,'Unloading Steam API...OK');
INSERT INTO job_logs VALUES(1,32,1796004867806,'stdout',1,'Redirecting stderr to ''/var/lib/left4me/steam/Steam/logs/stderr.txt''');
INSERT INTO job_logs VALUES(1,33,1796004867806,'stdout',1,'Logging directory: ''/var/lib/left4me/steam/Steam/logs''');
INSERT INTO job_logs VALUES(1,34,1796004867806,'stdout',1,'[  0%] Checking for available updates...');
INSERT INTO job_logs VALUES(1,35,1796004867806,'stdout',1,'[----] Verifying installation...');
INSERT INTO job_logs VALUES(1,36,1796004867806,'stdout',1,'UpdateUI: skip show logo');
INSERT INTO job_logs VALUES(1,37,1796004867807,'stdout',1,'Steam Console Client (c) Valve Corporation - version 1785186678');
INSERT INTO job_logs VALUES(1,38,1796004867807,'stdout',1,'-- type ''quit'' to exit --');
INSERT INTO job_logs VALUES(1,39,1796004867807,'stdout',1,'Loading Steam API...OK');
INSERT INTO job_logs VALUES(1,40,1796004867807,'stdout',1,'');
INSERT INTO job_logs VALUES(1,41,1796004867807,'stdout',1,'Connecting anonymously to Steam Public...OK');
INSERT INTO job_logs VALUES(1,42,1796004867807,'stdout',1,'Waiting for client config...OK');
INSERT INTO job_logs VALUES(1,43,1796004867807,'stdout',1,'Waiting for user info...OK');
INSERT INTO job_logs VALUES(1,44,1796004867807,'stdout',1,' Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)');
INSERT INTO job_logs VALUES(1,45,1796004867807,'stdout',1,' Update state (0x61) downloading, progress: 45.32 (3905867119 / 8618418181)');
INSERT INTO job_logs VALUES(1,46,1796004867807,'stdout',1,' Update state (0x61) downloading, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,47,1796004867807,'stdout',1,' Update state (0x101) committing, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,48,1796004867822,'stdout',1,'Success! App ''222860'' fully installed.');
INSERT INTO job_logs VALUES(1,49,1796004867822,'stdout',1,'Unloading Steam API...OK');
INSERT INTO job_logs VALUES(1,50,1796004867822,'stderr',1,'installed: build 100 in /var/lib/left4me/installation');
INSERT INTO job_logs VALUES(2,1,1796004867860,'stdout',2,'left4me: server 1: instance and config layer written');
INSERT INTO job_logs VALUES(2,2,1796004867953,'stdout',4,'left4me: server 2: instance and config layer written');
INSERT INTO job_logs VALUES(2,3,1796004871286,'stdout',3,'left4me: server 1 is running (active, running)');
INSERT INTO job_logs VALUES(2,4,1796004871291,'stdout',5,'left4me: server 2 is running (active, running)');
INSERT INTO job_logs VALUES(3,1,1796004871397,'stdout',6,'left4me: server 3: instance and config layer written');
INSERT INTO job_logs VALUES(4,1,1796004871857,'stdout',7,'Redirecting stderr to ''/var/lib/left4me/steam/Steam/logs/stderr.txt''');
INSERT INTO job_logs VALUES(4,2,1796004871857,'stdout',7,'Logging directory: ''/var/lib/left4me/steam/Steam/logs''');
INSERT INTO job_logs VALUES(4,3,1796004871857,'stdout',7,'[  0%] Checking for available updates...');
INSERT INTO job_logs VALUES(4,4,1796004871857,'stdout',7,'[----] Verifying installation...');
INSERT INTO job_logs VALUES(4,5,1796004871857,'stdout',7,'UpdateUI: skip show logo');
INSERT INTO job_logs VALUES(4,6,1796004871857,'stdout',7,'Steam Console Client (c) Valve Corporation - version 1785186678');
INSERT INTO job_logs VALUES(4,7,1796004871857,'stdout',7,'-- type ''quit'' to exit --');
INSERT INTO job_logs VALUES(4,8,1796004871857,'stdout',7,'Loading Steam API...OK');
INSERT INTO job_logs VALUES(4,9,1796004871857,'stdout',7,'');
INSERT INTO job_logs VALUES(4,10,1796004871857,'stdout',7,'Connecting anonymously to Steam Public...OK');
INSERT INTO job_logs VALUES(4,11,1796004871857,'stdout',7,'Waiting for client config...OK');
INSERT INTO job_logs VALUES(4,12,1796004871857,'stdout',7,'Waiting for user info...OK');
INSERT INTO job_logs VALUES(4,13,1796004871857,'stdout',7,'[  0%] Checking for available updates...');
INSERT INTO job_logs VALUES(4,14,1796004871857,'stdout',7,'No app info for AppID 222860 found, requesting...');
INSERT INTO job_logs VALUES(4,15,1796004871857,'stdout',7,'[  0%] Checking for available updates...');
INSERT INTO job_logs VALUES(4,16,1796004871857,'stdout',7,'AppID : 222860, change number : 26574431/0, last change : Thu Nov 19 10:12:14 2026');
INSERT INTO job_logs VALUES(4,17,1796004871857,'stdout',7,'[  0%] Downloading update (0 of 48,436 KB)...');
INSERT INTO job_logs VALUES(4,18,1796004871857,'stdout',7,'[  0%] Downloading update (0 of 48,436 KB)...');
INSERT INTO job_logs VALUES(4,19,1796004871857,'stdout',7,'[  0%] Downloading update (0 of 48,436 KB)...');
INSERT INTO job_logs VALUES(4,20,1796004871857,'stdout',7,'[  0%] Downloading update (0 of 48,436 KB)...');
INSERT INTO job_logs VALUES(4,21,1796004871857,'stdout',7,'[  0%] Downloading update (0 of 48,436 KB)...');
INSERT INTO job_logs VALUES(4,22,1796004871857,'stdout',7,'Unloading Steam API...OK');
INSERT INTO job_logs VALUES(4,23,1796004871858,'stdout',7,'left4me: build 100 is current, published 2025-11-19 09:12:14 UTC');
CREATE TABLE cancellations (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id         INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task_id        INTEGER REFERENCES tasks (id) ON DELETE CASCADE,
    requested_by   TEXT    NOT NULL,
    user_id        INTEGER REFERENCES users (id) ON DELETE SET NULL,
    reason         TEXT    NOT NULL DEFAULT '',
    force          INTEGER NOT NULL DEFAULT 0 CHECK (force IN (0, 1)),
    cascade        INTEGER NOT NULL DEFAULT 1 CHECK (cascade IN (0, 1)),
    previous_state TEXT    NOT NULL,
    state          TEXT    NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'running', 'completed', 'failed')),
    created_at     INTEGER NOT NULL,
    finished_at    INTEGER,
    message        TEXT, escalated_at INTEGER, timed_out INTEGER NOT NULL DEFAULT 0
    CHECK (timed_out IN (0, 1)), for_journal INTEGER NOT NULL DEFAULT 0
    CHECK (for_journal IN (0, 1)),
    CHECK ((state IN ('completed', 'failed')) = (finished_at IS NOT NULL))
) STRICT;
CREATE TABLE cancellation_steps (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    cancellation_id INTEGER NOT NULL REFERENCES cancellations (id) ON DELETE CASCADE,
    step            TEXT    NOT NULL CHECK (step IN ('block', 'identify', 'terminate', 'settle', 'clean', 'verify', 'finish')),
    started_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    ok              INTEGER CHECK (ok IN (0, 1)),
    detail          TEXT
) STRICT;
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    user_id    INTEGER REFERENCES users (id) ON DELETE SET NULL,
    job_id     INTEGER,
    task_id    INTEGER,
    server_id  INTEGER,
    detail     TEXT    NOT NULL DEFAULT ''
, reason TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO events VALUES(1,1796004867165,'user.added-as-admin','root',NULL,NULL,NULL,NULL,'admin','');
INSERT INTO events VALUES(2,1796004867260,'user.added','root',NULL,NULL,NULL,NULL,'anna','');
INSERT INTO events VALUES(3,1796004867365,'overlay.added','root',NULL,NULL,NULL,NULL,'''demo'' at overlays/demo','');
INSERT INTO events VALUES(4,1796004867373,'overlay.added','root',NULL,NULL,NULL,NULL,'''competitive'' at overlays/competitive','');
INSERT INTO events VALUES(5,1796004867378,'blueprint.created','root',NULL,NULL,NULL,NULL,'1 ''versus''','');
INSERT INTO events VALUES(6,1796004867381,'server.created','root',NULL,NULL,NULL,1,'''Friday'' on port 27000','');
INSERT INTO events VALUES(7,1796004867387,'server.created','root',NULL,NULL,NULL,2,'''Saturday'' on port 27001','');
INSERT INTO events VALUES(8,1796004867391,'server.created','root',NULL,NULL,NULL,3,'''Resting'' on port 27002','');
INSERT INTO events VALUES(9,1796004867403,'job.queued','root',NULL,1,NULL,NULL,'install','');
INSERT INTO events VALUES(10,1796004867404,'job.started','root',NULL,1,NULL,NULL,'install','');
INSERT INTO events VALUES(11,1796004867822,'task.succeeded','root',NULL,1,1,NULL,'install-runtime','');
INSERT INTO events VALUES(12,1796004867822,'job.succeeded','root',NULL,1,NULL,NULL,'','');
INSERT INTO events VALUES(13,1796004867854,'job.queued','root',NULL,2,NULL,NULL,'start','');
INSERT INTO events VALUES(14,1796004867857,'job.started','root',NULL,2,NULL,NULL,'start','');
INSERT INTO events VALUES(15,1796004867860,'task.succeeded','root',NULL,2,2,1,'initialize','');
INSERT INTO events VALUES(16,1796004867954,'task.succeeded','root',NULL,2,4,2,'initialize','');
INSERT INTO events VALUES(17,1796004868245,'server.started','root',NULL,2,NULL,1,'it runs','');
INSERT INTO events VALUES(18,1796004871286,'task.succeeded','root',NULL,2,3,1,'start','');
INSERT INTO events VALUES(19,1796004868291,'server.started','root',NULL,2,NULL,2,'it runs','');
INSERT INTO events VALUES(20,1796004871292,'task.succeeded','root',NULL,2,5,2,'start','');
INSERT INTO events VALUES(21,1796004871292,'job.succeeded','root',NULL,2,NULL,NULL,'','');
INSERT INTO events VALUES(22,1796004871332,'job.queued','root',NULL,3,NULL,3,'initialize','');
INSERT INTO events VALUES(23,1796004871345,'job.started','root',NULL,3,NULL,3,'initialize','');
INSERT INTO events VALUES(24,1796004871398,'task.succeeded','root',NULL,3,6,3,'initialize','');
INSERT INTO events VALUES(25,1796004871398,'job.succeeded','root',NULL,3,NULL,3,'','');
INSERT INTO events VALUES(26,1796004871408,'job.queued','root',NULL,4,NULL,NULL,'check','');
INSERT INTO events VALUES(27,1796004871421,'job.started','root',NULL,4,NULL,NULL,'check','');
INSERT INTO events VALUES(28,1796004871858,'task.succeeded','root',NULL,4,7,NULL,'check-build','');
INSERT INTO events VALUES(29,1796004871858,'job.succeeded','root',NULL,4,NULL,NULL,'','');
CREATE TABLE queue (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    paused_at INTEGER,
    paused_by TEXT,
    reason    TEXT,
    CHECK ((paused_at IS NULL) = (paused_by IS NULL))
) STRICT;
INSERT INTO queue VALUES(1,NULL,NULL,NULL);
CREATE TABLE orphans (
    instance TEXT    PRIMARY KEY,
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    state    TEXT    NOT NULL,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE missed_looks (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE
) STRICT;
CREATE TABLE event_journal (
    event_id INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
    lines    TEXT    NOT NULL CHECK (json_type(lines) = 'array')
) STRICT;
CREATE TABLE samples (
    server_id    INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    memory_bytes INTEGER,
    cpu_ns       INTEGER,
    restarts     INTEGER NOT NULL, players INTEGER, response_ms INTEGER,
    PRIMARY KEY (server_id, at)
) STRICT, WITHOUT ROWID;
INSERT INTO samples VALUES(1,1796004877103,NULL,52590000,0,0,0);
INSERT INTO samples VALUES(1,1796004907361,NULL,74175000,0,0,0);
INSERT INTO samples VALUES(2,1796004877103,NULL,55626000,0,0,1);
INSERT INTO samples VALUES(2,1796004907361,NULL,76865000,0,0,0);
CREATE TABLE samples_10min (
    server_id    INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    memory_bytes INTEGER,
    cpu_ns       INTEGER,
    restarts     INTEGER NOT NULL, players INTEGER, response_ms INTEGER,
    PRIMARY KEY (server_id, at)
) STRICT, WITHOUT ROWID;
INSERT INTO samples_10min VALUES(1,1796004600000,NULL,52590000,0,0,0);
INSERT INTO samples_10min VALUES(2,1796004600000,NULL,55626000,0,0,1);
CREATE TABLE poll (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    polled_at INTEGER,
    error     TEXT
, pruned_at INTEGER, disk_low_since INTEGER) STRICT;
INSERT INTO poll VALUES(1,1796004907359,NULL,NULL,NULL);
CREATE TABLE cancellation_tasks (
    cancellation_id INTEGER NOT NULL REFERENCES cancellations (id) ON DELETE CASCADE,
    task_id         INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    previous_state  TEXT    NOT NULL,
    caused_by       INTEGER,
    PRIMARY KEY (cancellation_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE request_keys (
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key        TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    job_id     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE metric_bounds (le INTEGER PRIMARY KEY) STRICT;
INSERT INTO metric_bounds VALUES(50);
INSERT INTO metric_bounds VALUES(100);
INSERT INTO metric_bounds VALUES(250);
INSERT INTO metric_bounds VALUES(500);
INSERT INTO metric_bounds VALUES(1000);
INSERT INTO metric_bounds VALUES(2500);
INSERT INTO metric_bounds VALUES(5000);
INSERT INTO metric_bounds VALUES(10000);
INSERT INTO metric_bounds VALUES(30000);
INSERT INTO metric_bounds VALUES(60000);
INSERT INTO metric_bounds VALUES(120000);
INSERT INTO metric_bounds VALUES(300000);
INSERT INTO metric_bounds VALUES(900000);
INSERT INTO metric_bounds VALUES(1800000);
INSERT INTO metric_bounds VALUES(3600000);
INSERT INTO metric_bounds VALUES(7200000);
INSERT INTO metric_bounds VALUES(9223372036854775807);
CREATE TABLE metric_sums (
    metric   TEXT    NOT NULL,
    label    TEXT    NOT NULL DEFAULT '',
    state    TEXT    NOT NULL DEFAULT '',
    le       INTEGER NOT NULL DEFAULT 0,
    n        INTEGER NOT NULL DEFAULT 0,
    total_ms REAL    NOT NULL DEFAULT 0,
    PRIMARY KEY (metric, label, state, le)
) STRICT, WITHOUT ROWID;
INSERT INTO metric_sums VALUES('cancellation_timeouts','','',0,0,0.0);
INSERT INTO metric_sums VALUES('job_duration','check','',500,1,437.0);
INSERT INTO metric_sums VALUES('job_duration','initialize','',100,1,53.0);
INSERT INTO metric_sums VALUES('job_duration','install','',500,1,418.0);
INSERT INTO metric_sums VALUES('job_duration','start','',5000,1,3435.0);
INSERT INTO metric_sums VALUES('jobs','check','succeeded',0,1,0.0);
INSERT INTO metric_sums VALUES('jobs','initialize','succeeded',0,1,0.0);
INSERT INTO metric_sums VALUES('jobs','install','succeeded',0,1,0.0);
INSERT INTO metric_sums VALUES('jobs','start','succeeded',0,1,0.0);
INSERT INTO metric_sums VALUES('queue_wait','','',50,4,30.0);
CREATE TABLE server_crashes (
    id        INTEGER PRIMARY KEY,
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL
) STRICT;
CREATE TABLE server_game (
    server_id   INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    -- 'not-yet': it has not answered since its start. 'no': it did, but not when it was asked last.
    responding  TEXT    NOT NULL CHECK (responding IN ('yes', 'no', 'not-yet')),
    players     INTEGER,
    bots        INTEGER,
    max_players INTEGER,
    map         TEXT,
    response_ms INTEGER,
    -- When it answered last, and when it was asked last, unix ms.
    answered_at INTEGER,
    asked_at    INTEGER NOT NULL,
    -- Polls in a row without an answer.
    unanswered  INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO server_game VALUES(1,'yes',0,0,18,'c1m1_hotel',0,1796004907365,1796004907365,0);
INSERT INTO server_game VALUES(2,'yes',0,0,18,'c1m1_hotel',0,1796004907365,1796004907365,0);
CREATE TABLE server_players (
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    score     INTEGER NOT NULL,
    seconds   INTEGER NOT NULL,
    PRIMARY KEY (server_id, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE alerts (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL UNIQUE,
    kind        TEXT    NOT NULL CHECK (kind IN ('discord', 'webhook', 'ntfy', 'mail')),
    target      TEXT    NOT NULL,
    events      TEXT    NOT NULL CHECK (json_type(events) = 'array'),
    servers     TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(servers) = 'array'),
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    muted_until INTEGER,
    failures    INTEGER NOT NULL DEFAULT 0,
    retry_at    INTEGER,
    last_error  TEXT
) STRICT;
CREATE TABLE alert_outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id    INTEGER NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    event_id    INTEGER NOT NULL,
    class       TEXT    NOT NULL,
    server_id   INTEGER,
    state       TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed', 'merged')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    merged_into INTEGER,
    more        INTEGER NOT NULL DEFAULT 0,
    is_mixed    INTEGER NOT NULL DEFAULT 0 CHECK (is_mixed IN (0, 1)),
    last_error  TEXT,
    UNIQUE (alert_id, event_id),
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK ((state = 'merged') = (merged_into IS NOT NULL))
) STRICT;
CREATE TABLE job_conditions (
    job_id       INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    when_empty   INTEGER NOT NULL CHECK (when_empty IN (0, 1)),
    until_at     INTEGER,
    until_asked  TEXT,
    at_deadline  TEXT    CHECK (at_deadline IN ('go', 'give-up')),
    -- Warnings to players: ms before until_at, descending; how many of them are said or left out.
    warn         TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(warn) = 'array'),
    warn_text    TEXT,
    warned       INTEGER NOT NULL DEFAULT 0 CHECK (warned >= 0),
    -- When the game last answered that nobody plays, right before the start; when it did not, and what was found.
    confirmed_at INTEGER,
    doubted_at   INTEGER,
    doubt        TEXT,
    -- When it stopped waiting and became an ordinary queued job.
    released_at  INTEGER,
    CHECK (when_empty = 1 OR until_at IS NOT NULL),
    CHECK ((until_at IS NULL) = (until_asked IS NULL)),
    CHECK ((until_at IS NULL) = (at_deadline IS NULL)),
    CHECK ((doubted_at IS NULL) = (doubt IS NULL))
) STRICT;
CREATE TABLE schedules (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    operation   TEXT    NOT NULL
                CHECK (operation IN ('restart', 'stop', 'start', 'initialize', 'reset', 'update', 'backup')),
    of_all      INTEGER NOT NULL DEFAULT 0 CHECK (of_all IN (0, 1)),
    calendar    TEXT    NOT NULL,
    zone        TEXT,
    persistent  INTEGER NOT NULL DEFAULT 0 CHECK (persistent IN (0, 1)),
    paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    rolling     INTEGER CHECK (rolling BETWEEN 1 AND 65535),
    when_empty  INTEGER NOT NULL DEFAULT 0 CHECK (when_empty IN (0, 1)),
    until_asked TEXT,
    at_deadline TEXT    CHECK (at_deadline IN ('go', 'give-up')),
    -- Ms before the deadline, descending.
    warn        TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(warn) = 'array'),
    warn_text   TEXT,
    owner_id    INTEGER REFERENCES users (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    since       INTEGER NOT NULL DEFAULT 0,
    last_run_at INTEGER,
    last_job_id INTEGER,
    last_error  TEXT,
    next_at     INTEGER,
    timer_error TEXT,
    CHECK (operation NOT IN ('update', 'backup') OR (of_all = 0 AND rolling IS NULL)),
    CHECK (at_deadline IS NULL OR until_asked IS NOT NULL)
) STRICT;
CREATE TABLE schedule_servers (
    schedule_id INTEGER NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    server_id   INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    PRIMARY KEY (schedule_id, server_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE available_build (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    build        INTEGER NOT NULL CHECK (build > 0),
    published_at INTEGER,
    known_since  INTEGER NOT NULL,
    checked_at   INTEGER NOT NULL,
    -- The build for which an event was added.
    announced    INTEGER
) STRICT;
INSERT INTO available_build VALUES(1,100,1763543534000,1796004871858,1796004871858,NULL);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('users',2);
INSERT INTO sqlite_sequence VALUES('events',29);
INSERT INTO sqlite_sequence VALUES('overlays',2);
INSERT INTO sqlite_sequence VALUES('blueprints',1);
INSERT INTO sqlite_sequence VALUES('servers',3);
INSERT INTO sqlite_sequence VALUES('jobs',4);
INSERT INTO sqlite_sequence VALUES('tasks',7);
INSERT INTO sqlite_sequence VALUES('runners',4);
CREATE INDEX tokens_of_user ON tokens (user_id);
CREATE INDEX sessions_of_user ON sessions (user_id) WHERE ended_at IS NULL;
CREATE INDEX blueprint_overlays_of_overlay ON blueprint_overlays (overlay_id);
CREATE INDEX servers_of_blueprint ON servers (blueprint_id);
CREATE INDEX jobs_queued ON jobs (id) WHERE state = 'queued';
CREATE INDEX jobs_live ON jobs (id) WHERE state IN ('running', 'cancelling');
CREATE INDEX jobs_retry_of ON jobs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX job_targets_of_server ON job_targets (server_id, job_id);
CREATE INDEX tasks_live ON tasks (job_id) WHERE state IN ('running', 'cancelling');
CREATE INDEX task_dependencies_on ON task_dependencies (depends_on);
CREATE INDEX runners_of_task ON runners (task_id);
CREATE INDEX runners_live ON runners (id) WHERE ended_at IS NULL;
CREATE INDEX cancellations_of_job ON cancellations (job_id);
CREATE INDEX cancellations_live ON cancellations (id) WHERE state IN ('requested', 'running');
CREATE INDEX cancellation_steps_of ON cancellation_steps (cancellation_id);
CREATE INDEX events_of_job ON events (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX events_of_server ON events (server_id) WHERE server_id IS NOT NULL;
CREATE INDEX cancellation_tasks_of_task ON cancellation_tasks (task_id);
CREATE UNIQUE INDEX cancellations_live_of_job ON cancellations (job_id)
    WHERE task_id IS NULL AND state IN ('requested', 'running');
CREATE UNIQUE INDEX cancellations_live_of_task ON cancellations (task_id)
    WHERE task_id IS NOT NULL AND state IN ('requested', 'running');
CREATE INDEX cancellations_failed ON cancellations (id) WHERE state = 'failed';
CREATE INDEX cancellations_of_task ON cancellations (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX runners_of_cancellation ON runners (cancellation_id) WHERE cancellation_id IS NOT NULL;
CREATE INDEX runners_left ON runners (id) WHERE tree = 'left';
CREATE TRIGGER events_are_only_added BEFORE UPDATE OF id, at, kind, actor, job_id, task_id, server_id, detail, reason ON events
BEGIN
    SELECT raise(ABORT, 'events are only ever added');
END;
CREATE INDEX request_keys_of_job ON request_keys (job_id);
CREATE INDEX request_keys_created ON request_keys (created_at);
CREATE INDEX jobs_of_user ON jobs (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_expiring ON sessions (expires_at);
CREATE VIEW metric_seen (metric, label, state, ms) AS SELECT '', '', '', NULL WHERE 0;
CREATE TRIGGER metric_seen_is_added INSTEAD OF INSERT ON metric_seen
BEGIN
    INSERT INTO metric_sums (metric, label, state, le, n, total_ms)
    VALUES (new.metric, new.label, new.state,
            iif(new.ms IS NULL, 0, coalesce((SELECT min(le) FROM metric_bounds WHERE le >= new.ms), 9223372036854775807)),
            1, max(0.0, coalesce(new.ms, 0.0)))
    ON CONFLICT (metric, label, state, le) DO UPDATE SET n = n + 1, total_ms = total_ms + excluded.total_ms;
END;
CREATE TRIGGER metrics_of_jobs_ended AFTER UPDATE OF finished_at ON jobs
WHEN old.finished_at IS NULL AND new.finished_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('jobs', new.operation, new.state, NULL);
    INSERT INTO metric_seen SELECT 'job_duration', new.operation, '', new.finished_at - new.started_at
        WHERE new.started_at IS NOT NULL;
END;
CREATE TRIGGER metrics_of_cancellations_asked AFTER INSERT ON cancellations
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_requests', iif(new.task_id IS NULL, 'job', 'task'), '', NULL);
END;
CREATE TRIGGER metrics_of_cancellations_ended AFTER UPDATE OF finished_at ON cancellations
WHEN old.finished_at IS NULL AND new.finished_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_duration', '', '', new.finished_at - new.created_at);
    INSERT INTO metric_seen SELECT 'cancellation_failures', '', '', NULL WHERE new.state = 'failed';
END;
CREATE TRIGGER metrics_of_steps_failed AFTER UPDATE OF ok ON cancellation_steps
WHEN old.ok IS NULL AND new.ok = 0
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_step_failures', new.step, '', NULL);
END;
CREATE TRIGGER metrics_of_runners_terminated AFTER UPDATE OF cancellation_id ON runners
WHEN old.cancellation_id IS NULL AND new.cancellation_id IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('runners_terminated', coalesce(new.ended_by, 'lost'), '', NULL);
END;
CREATE INDEX crashes_of_server ON server_crashes (server_id, at);
CREATE TRIGGER metrics_of_crashes AFTER INSERT ON server_crashes
BEGIN
    INSERT INTO metric_seen VALUES ('server_crashes', CAST(new.server_id AS TEXT), '', NULL);
END;
CREATE TRIGGER metrics_of_removed_servers AFTER DELETE ON servers
BEGIN
    DELETE FROM metric_sums WHERE metric = 'server_crashes' AND label = CAST(old.id AS TEXT);
END;
CREATE INDEX cancellations_for_journal ON cancellations (id) WHERE for_journal = 1;
CREATE TRIGGER metrics_of_cancellations_timed_out AFTER UPDATE OF timed_out ON cancellations
WHEN old.timed_out = 0 AND new.timed_out = 1
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_timeouts', '', '', NULL);
END;
CREATE INDEX jobs_unsuccessful ON jobs (id) WHERE state IN ('failed', 'cancelled');
CREATE INDEX alert_outbox_pending ON alert_outbox (alert_id, id) WHERE state = 'pending';
CREATE INDEX alert_outbox_sent ON alert_outbox (alert_id, ended_at) WHERE state = 'sent';
CREATE INDEX alert_outbox_ended ON alert_outbox (ended_at) WHERE ended_at IS NOT NULL;
CREATE TRIGGER metrics_of_alerts AFTER UPDATE OF state ON alert_outbox
WHEN old.state = 'pending' AND new.state <> 'pending'
BEGIN
    INSERT INTO metric_seen SELECT 'alerts', name, new.state, NULL FROM alerts WHERE id = new.alert_id;
END;
CREATE TRIGGER metrics_of_removed_alerts AFTER DELETE ON alerts
BEGIN
    DELETE FROM metric_sums WHERE metric = 'alerts' AND label = old.name;
END;
CREATE INDEX jobs_ready ON jobs (id) WHERE state = 'queued' AND on_hold = 0;
CREATE INDEX jobs_on_hold ON jobs (id) WHERE on_hold = 1;
CREATE INDEX jobs_ready_exclusive ON jobs (id)
    WHERE state = 'queued' AND on_hold = 0 AND operation IN ('install', 'update');
CREATE TRIGGER metrics_of_jobs_begun AFTER UPDATE OF started_at ON jobs
WHEN old.started_at IS NULL AND new.started_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('queue_wait', '', '', new.started_at - coalesce(
        (SELECT released_at FROM job_conditions WHERE job_id = new.id), new.created_at));
END;
CREATE INDEX schedules_of_owner ON schedules (owner_id);
CREATE INDEX schedule_servers_of_server ON schedule_servers (server_id);
CREATE INDEX jobs_ready_check ON jobs (id) WHERE state = 'queued' AND on_hold = 0 AND operation = 'check';
COMMIT;
