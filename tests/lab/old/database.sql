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
INSERT INTO users VALUES(1,'admin','$argon2id$v=19$m=19456,t=2,p=1$ZTyFQHdEZOpgrrjLjJXnQQ$YanVn7UENMaq69IE+SCITrVP7UKZPF/LxWE0bFpXrnY',1,1795878207026,1795878207026,NULL);
INSERT INTO users VALUES(2,'anna','$argon2id$v=19$m=19456,t=2,p=1$Wo4h0XRSQhyjtlDxje8dWw$GfEtEpFahCtNcC7ZdNWIFr5C1ItNfOwzS8TWUZZlxis',0,1795878207104,1795878207104,NULL);
INSERT INTO users VALUES(3,'bob','$argon2id$v=19$m=19456,t=2,p=1$Quh8pJRxNd489X9o6uXpBQ$NIokM21FrXIB0dRh3ud5juf/3O5gOiGo5GwGIhBJHDE',0,1795878207192,1795878207192,NULL);
CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
INSERT INTO tokens VALUES(1,2,'script',X'8c05efa6c5c2d66ed36d2902d5ad4424f44c2bb837b33b3be47757632c6bbc3d',1795878207311,NULL,NULL);
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
INSERT INTO overlays VALUES(1,'demo','demo',1795878207232);
INSERT INTO overlays VALUES(2,'competitive','competitive',1795878207244);
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
INSERT INTO blueprints VALUES(1,2,'versus','["+map","c1m1_hotel"]','["hostname \"first name\"","sv_steamgroup_exclusive 0","rcon_password secret1"]',1795878207253,1795878207253);
INSERT INTO blueprints VALUES(2,3,'spaces','["+hostname","Bob''s best server","-tickrate 60","+map","c2m1_highway"]','[]',1795878207264,1795878207264);
INSERT INTO blueprints VALUES(3,3,'evil','["-autoupdate","-steam_dir",".","-steamcmd_script","x;id;","@args.txt"]','[]',1795878207268,1795878207268);
CREATE TABLE blueprint_overlays (
    blueprint_id INTEGER NOT NULL REFERENCES blueprints (id) ON DELETE CASCADE,
    position     INTEGER NOT NULL CHECK (position >= 0),
    overlay_id   INTEGER NOT NULL REFERENCES overlays (id),
    PRIMARY KEY (blueprint_id, position),
    UNIQUE (blueprint_id, overlay_id)
) STRICT, WITHOUT ROWID;
INSERT INTO blueprint_overlays VALUES(1,0,1);
INSERT INTO blueprint_overlays VALUES(2,0,1);
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
    updated_at              INTEGER NOT NULL, version INTEGER NOT NULL DEFAULT 1, actual_since INTEGER, last_end TEXT, restarts INTEGER NOT NULL DEFAULT 0, active_enter_us INTEGER NOT NULL DEFAULT 0, exit_us INTEGER NOT NULL DEFAULT 0, drift TEXT CHECK (drift IN ('down', 'up', 'enabled', 'disabled')), drift_since INTEGER CHECK ((drift_since IS NULL) = (drift IS NULL)), drift_why TEXT CHECK (drift_why IS NULL OR drift IS NOT NULL),
    UNIQUE (user_id, name)
) STRICT;
INSERT INTO servers VALUES(1,2,'Friday',27000,1,'running','running','running',1795878218834,1,NULL,1795878207280,1795878207464,3,1795878208012,NULL,0,949612690,0,NULL,NULL,NULL);
INSERT INTO servers VALUES(2,3,'Bobs',27001,2,'running','running','running',1795878218834,1,NULL,1795878207283,1795878207464,3,1795878208010,NULL,0,949612091,0,NULL,NULL,NULL);
INSERT INTO servers VALUES(3,3,'Evil',27002,3,'stopped','stopped','dead',1795878218832,0,NULL,1795878207296,1795878207296,2,1795878208152,NULL,0,0,0,NULL,NULL,NULL);
INSERT INTO servers VALUES(4,2,'Resting',27003,1,'stopped','stopped','dead',1795878218832,0,NULL,1795878207308,1795878208721,6,1795878209338,'systemd was told to stop it',0,0,0,NULL,NULL,NULL);
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
    worker_id    TEXT,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (exit_code IS NOT NULL)),
    CHECK (state <> 'queued' OR (started_at IS NULL AND worker_id IS NULL)),
    CHECK (state NOT IN ('running', 'cancelling') OR (started_at IS NOT NULL AND worker_id IS NOT NULL))
) STRICT;
INSERT INTO jobs VALUES(1,'install','succeeded','root',NULL,NULL,1795878207320,1795878207439,1795878207321,1795878207439,0,NULL,'134-1795878206608');
INSERT INTO jobs VALUES(2,'start','succeeded','root',NULL,NULL,1795878207464,1795878208150,1795878207465,1795878208150,0,NULL,'134-1795878206608');
INSERT INTO jobs VALUES(3,'start','succeeded','root',NULL,NULL,1795878208170,1795878208703,1795878208176,1795878208703,0,NULL,'134-1795878206608');
INSERT INTO jobs VALUES(4,'stop','succeeded','root',NULL,NULL,1795878208721,1795878209456,1795878208727,1795878209456,0,NULL,'134-1795878206608');
CREATE TABLE job_targets (
    job_id    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    server_id INTEGER NOT NULL,
    PRIMARY KEY (job_id, server_id)
) STRICT, WITHOUT ROWID;
INSERT INTO job_targets VALUES(2,1);
INSERT INTO job_targets VALUES(2,2);
INSERT INTO job_targets VALUES(3,4);
INSERT INTO job_targets VALUES(4,4);
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
INSERT INTO tasks VALUES(1,1,0,'install-runtime',NULL,'succeeded',1795878207321,1795878207439,0,NULL,NULL,0);
INSERT INTO tasks VALUES(2,2,0,'initialize',1,'succeeded',1795878207465,1795878207482,0,NULL,NULL,0);
INSERT INTO tasks VALUES(3,2,1,'start',1,'succeeded',1795878207482,1795878208146,0,NULL,NULL,0);
INSERT INTO tasks VALUES(4,2,2,'initialize',2,'succeeded',1795878207465,1795878207490,0,NULL,NULL,0);
INSERT INTO tasks VALUES(5,2,3,'start',2,'succeeded',1795878207490,1795878208150,0,NULL,NULL,0);
INSERT INTO tasks VALUES(6,3,0,'initialize',4,'succeeded',1795878208176,1795878208195,0,NULL,NULL,0);
INSERT INTO tasks VALUES(7,3,1,'start',4,'succeeded',1795878208195,1795878208703,0,NULL,NULL,0);
INSERT INTO tasks VALUES(8,4,0,'stop',4,'succeeded',1795878208727,1795878209456,0,NULL,1,0);
CREATE TABLE task_dependencies (
    task_id    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    depends_on INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    needs      TEXT    NOT NULL DEFAULT 'success' CHECK (needs IN ('success', 'end')),
    PRIMARY KEY (task_id, depends_on),
    CHECK (depends_on < task_id)
) STRICT, WITHOUT ROWID;
INSERT INTO task_dependencies VALUES(3,2,'success');
INSERT INTO task_dependencies VALUES(5,4,'success');
INSERT INTO task_dependencies VALUES(7,6,'success');
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
INSERT INTO runners VALUES(1,1,'install','left4me-runner@0-134-997.service',178,'/l4d2.slice/l4d2-build.slice/left4me-runner@0-134-997.service/command',1795878207326,1795878207439,0,'exit','empty',NULL);
INSERT INTO runners VALUES(2,3,'enable','left4me-helper@0-134-997.service',192,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@0-134-997.service',1795878207483,1795878208014,0,'exit','empty',NULL);
INSERT INTO runners VALUES(3,5,'enable','left4me-helper@1-134-997.service',193,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@1-134-997.service',1795878207495,1795878208011,0,'exit','empty',NULL);
INSERT INTO runners VALUES(4,5,'show','left4me-helper@2-134-997.service',259,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@2-134-997.service',1795878208011,1795878208150,0,'exit','empty',NULL);
INSERT INTO runners VALUES(5,3,'show','left4me-helper@3-134-997.service',258,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@3-134-997.service',1795878208014,1795878208146,0,'exit','empty',NULL);
INSERT INTO runners VALUES(6,7,'enable','left4me-helper@4-134-997.service',274,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@4-134-997.service',1795878208198,1795878208604,0,'exit','empty',NULL);
INSERT INTO runners VALUES(7,7,'show','left4me-helper@5-134-997.service',307,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@5-134-997.service',1795878208604,1795878208702,0,'exit','empty',NULL);
INSERT INTO runners VALUES(8,8,'show','left4me-helper@6-134-997.service',317,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@6-134-997.service',1795878208729,1795878208810,0,'exit','empty',NULL);
INSERT INTO runners VALUES(9,8,'disable','left4me-helper@7-134-997.service',352,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@7-134-997.service',1795878208810,1795878209338,0,'exit','empty',NULL);
INSERT INTO runners VALUES(10,8,'show','left4me-helper@8-134-997.service',357,'/system.slice/system-left4me\x2dhelper.slice/left4me-helper@8-134-997.service',1795878209338,1795878209455,0,'exit','empty',NULL);
CREATE TABLE job_logs (
    job_id  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL CHECK (seq >= 1),
    at      INTEGER NOT NULL,
    stream  TEXT    NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    task_id INTEGER,
    line    TEXT    NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO job_logs VALUES(1,1,1795878207415,'stdout',1,'Redirecting stderr to ''stderr.txt''');
INSERT INTO job_logs VALUES(1,2,1795878207415,'stdout',1,'[----] Verifying installation...');
INSERT INTO job_logs VALUES(1,3,1795878207415,'stdout',1,'-- type ''quit'' to exit --');
INSERT INTO job_logs VALUES(1,4,1795878207415,'stdout',1,'Loading Steam API...OK');
INSERT INTO job_logs VALUES(1,5,1795878207415,'stdout',1,'Connecting anonymously to Steam Public...OK');
INSERT INTO job_logs VALUES(1,6,1795878207415,'stdout',1,'Waiting for client config...OK');
INSERT INTO job_logs VALUES(1,7,1795878207415,'stdout',1,'Waiting for user info...OK');
INSERT INTO job_logs VALUES(1,8,1795878207435,'stdout',1,'Redirecting stderr to ''stderr.txt''');
INSERT INTO job_logs VALUES(1,9,1795878207435,'stdout',1,'[----] Verifying installation...');
INSERT INTO job_logs VALUES(1,10,1795878207435,'stdout',1,'-- type ''quit'' to exit --');
INSERT INTO job_logs VALUES(1,11,1795878207435,'stdout',1,'Loading Steam API...OK');
INSERT INTO job_logs VALUES(1,12,1795878207435,'stdout',1,'Connecting anonymously to Steam Public...OK');
INSERT INTO job_logs VALUES(1,13,1795878207435,'stdout',1,'Waiting for client config...OK');
INSERT INTO job_logs VALUES(1,14,1795878207435,'stdout',1,'Waiting for user info...OK');
INSERT INTO job_logs VALUES(1,15,1795878207435,'stdout',1,' Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)');
INSERT INTO job_logs VALUES(1,16,1795878207435,'stdout',1,' Update state (0x61) downloading, progress: 45.32 (3905867119 / 8618418181)');
INSERT INTO job_logs VALUES(1,17,1795878207435,'stdout',1,' Update state (0x61) downloading, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,18,1795878207435,'stdout',1,' Update state (0x101) committing, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,19,1795878207435,'stdout',1,'Success! App ''222860'' fully installed.');
INSERT INTO job_logs VALUES(1,20,1795878207439,'stdout',1,'Redirecting stderr to ''stderr.txt''');
INSERT INTO job_logs VALUES(1,21,1795878207439,'stdout',1,'[----] Verifying installation...');
INSERT INTO job_logs VALUES(1,22,1795878207439,'stdout',1,'-- type ''quit'' to exit --');
INSERT INTO job_logs VALUES(1,23,1795878207439,'stdout',1,'Loading Steam API...OK');
INSERT INTO job_logs VALUES(1,24,1795878207439,'stdout',1,'Connecting anonymously to Steam Public...OK');
INSERT INTO job_logs VALUES(1,25,1795878207439,'stdout',1,'Waiting for client config...OK');
INSERT INTO job_logs VALUES(1,26,1795878207439,'stdout',1,'Waiting for user info...OK');
INSERT INTO job_logs VALUES(1,27,1795878207439,'stdout',1,' Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)');
INSERT INTO job_logs VALUES(1,28,1795878207439,'stdout',1,' Update state (0x61) downloading, progress: 45.32 (3905867119 / 8618418181)');
INSERT INTO job_logs VALUES(1,29,1795878207439,'stdout',1,' Update state (0x61) downloading, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,30,1795878207439,'stdout',1,' Update state (0x101) committing, progress: 100.00 (8618418181 / 8618418181)');
INSERT INTO job_logs VALUES(1,31,1795878207439,'stdout',1,'Success! App ''222860'' fully installed.');
INSERT INTO job_logs VALUES(1,32,1795878207439,'stderr',1,'installed: build 14245183 in /var/lib/left4me/installation');
INSERT INTO job_logs VALUES(2,1,1795878207479,'stdout',2,'left4me: server 1: instance and config layer written');
INSERT INTO job_logs VALUES(2,2,1795878207480,'stdout',4,'left4me: server 2: instance and config layer written');
INSERT INTO job_logs VALUES(2,3,1795878207585,'stderr',5,'Created symlink /etc/systemd/system/multi-user.target.wants/left4me-server@2.service → /lib/systemd/system/left4me-server@.service.');
INSERT INTO job_logs VALUES(2,4,1795878207587,'stderr',3,'Created symlink /etc/systemd/system/multi-user.target.wants/left4me-server@1.service → /lib/systemd/system/left4me-server@.service.');
INSERT INTO job_logs VALUES(2,5,1795878208146,'stdout',3,'left4me: server 1 is running (active, running)');
INSERT INTO job_logs VALUES(2,6,1795878208150,'stdout',5,'left4me: server 2 is running (active, running)');
INSERT INTO job_logs VALUES(3,1,1795878208194,'stdout',6,'left4me: server 4: instance and config layer written');
INSERT INTO job_logs VALUES(3,2,1795878208356,'stderr',7,'Created symlink /etc/systemd/system/multi-user.target.wants/left4me-server@4.service → /lib/systemd/system/left4me-server@.service.');
INSERT INTO job_logs VALUES(3,3,1795878208702,'stdout',7,'left4me: server 4 is running (active, running)');
INSERT INTO job_logs VALUES(4,1,1795878208888,'stderr',8,'Removed "/etc/systemd/system/multi-user.target.wants/left4me-server@4.service".');
INSERT INTO job_logs VALUES(4,2,1795878209455,'stdout',8,'left4me: server 4 is stopped');
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
    message        TEXT,
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
INSERT INTO events VALUES(1,1795878207026,'user.added-as-admin','root',NULL,NULL,NULL,NULL,'admin','');
INSERT INTO events VALUES(2,1795878207104,'user.added','root',NULL,NULL,NULL,NULL,'anna','');
INSERT INTO events VALUES(3,1795878207192,'user.added','root',NULL,NULL,NULL,NULL,'bob','');
INSERT INTO events VALUES(4,1795878207232,'overlay.added','root',NULL,NULL,NULL,NULL,'''demo'' at overlays/demo','');
INSERT INTO events VALUES(5,1795878207244,'overlay.added','root',NULL,NULL,NULL,NULL,'''competitive'' at overlays/competitive','');
INSERT INTO events VALUES(6,1795878207253,'blueprint.created','root',NULL,NULL,NULL,NULL,'1 ''versus''','');
INSERT INTO events VALUES(7,1795878207264,'blueprint.created','root',NULL,NULL,NULL,NULL,'2 ''spaces''','');
INSERT INTO events VALUES(8,1795878207268,'blueprint.created','root',NULL,NULL,NULL,NULL,'3 ''evil''','');
INSERT INTO events VALUES(9,1795878207280,'server.created','root',NULL,NULL,NULL,1,'''Friday'' on port 27000','');
INSERT INTO events VALUES(10,1795878207283,'server.created','root',NULL,NULL,NULL,2,'''Bobs'' on port 27001','');
INSERT INTO events VALUES(11,1795878207296,'server.created','root',NULL,NULL,NULL,3,'''Evil'' on port 27002','');
INSERT INTO events VALUES(12,1795878207308,'server.created','root',NULL,NULL,NULL,4,'''Resting'' on port 27003','');
INSERT INTO events VALUES(13,1795878207311,'token.created','root',NULL,NULL,NULL,NULL,'1 ''script'' of anna','');
INSERT INTO events VALUES(14,1795878207320,'job.queued','root',NULL,1,NULL,NULL,'install','');
INSERT INTO events VALUES(15,1795878207321,'job.started','root',NULL,1,NULL,NULL,'install','');
INSERT INTO events VALUES(16,1795878207439,'task.succeeded','root',NULL,1,1,NULL,'install-runtime','');
INSERT INTO events VALUES(17,1795878207439,'job.succeeded','root',NULL,1,NULL,NULL,'','');
INSERT INTO events VALUES(18,1795878207464,'job.queued','root',NULL,2,NULL,NULL,'start','');
INSERT INTO events VALUES(19,1795878207465,'job.started','root',NULL,2,NULL,NULL,'start','');
INSERT INTO events VALUES(20,1795878207482,'task.succeeded','root',NULL,2,2,1,'initialize','');
INSERT INTO events VALUES(21,1795878207490,'task.succeeded','root',NULL,2,4,2,'initialize','');
INSERT INTO events VALUES(22,1795878208014,'server.started','root',NULL,2,NULL,1,'it runs','');
INSERT INTO events VALUES(23,1795878208146,'task.succeeded','root',NULL,2,3,1,'start','');
INSERT INTO events VALUES(24,1795878208011,'server.started','root',NULL,2,NULL,2,'it runs','');
INSERT INTO events VALUES(25,1795878208150,'task.succeeded','root',NULL,2,5,2,'start','');
INSERT INTO events VALUES(26,1795878208150,'job.succeeded','root',NULL,2,NULL,NULL,'','');
INSERT INTO events VALUES(27,1795878208170,'job.queued','root',NULL,3,NULL,4,'start','');
INSERT INTO events VALUES(28,1795878208176,'job.started','root',NULL,3,NULL,4,'start','');
INSERT INTO events VALUES(29,1795878208195,'task.succeeded','root',NULL,3,6,4,'initialize','');
INSERT INTO events VALUES(30,1795878208604,'server.started','root',NULL,3,NULL,4,'it runs','');
INSERT INTO events VALUES(31,1795878208703,'task.succeeded','root',NULL,3,7,4,'start','');
INSERT INTO events VALUES(32,1795878208703,'job.succeeded','root',NULL,3,NULL,4,'','');
INSERT INTO events VALUES(33,1795878208721,'job.queued','root',NULL,4,NULL,4,'stop','');
INSERT INTO events VALUES(34,1795878208727,'job.started','root',NULL,4,NULL,4,'stop','');
INSERT INTO events VALUES(35,1795878209338,'server.stopped','root',NULL,4,NULL,4,'systemd was told to stop it','');
INSERT INTO events VALUES(36,1795878209456,'task.succeeded','root',NULL,4,8,4,'stop','');
INSERT INTO events VALUES(37,1795878209456,'job.succeeded','root',NULL,4,NULL,4,'','');
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
    restarts     INTEGER NOT NULL,
    PRIMARY KEY (server_id, at)
) STRICT, WITHOUT ROWID;
INSERT INTO samples VALUES(1,1795878208697,NULL,50913000,0);
INSERT INTO samples VALUES(1,1795878209280,NULL,51426000,0);
INSERT INTO samples VALUES(1,1795878218834,NULL,61221000,0);
INSERT INTO samples VALUES(2,1795878208697,NULL,50239000,0);
INSERT INTO samples VALUES(2,1795878209280,NULL,50820000,0);
INSERT INTO samples VALUES(2,1795878218834,NULL,60226000,0);
CREATE TABLE samples_10min (
    server_id    INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    memory_bytes INTEGER,
    cpu_ns       INTEGER,
    restarts     INTEGER NOT NULL,
    PRIMARY KEY (server_id, at)
) STRICT, WITHOUT ROWID;
INSERT INTO samples_10min VALUES(1,1795878000000,NULL,50913000,0);
INSERT INTO samples_10min VALUES(2,1795878000000,NULL,50239000,0);
CREATE TABLE poll (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    polled_at INTEGER,
    error     TEXT
) STRICT;
INSERT INTO poll VALUES(1,1795878218832,NULL);
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
INSERT INTO metric_sums VALUES('job_duration','install','',250,1,118.0);
INSERT INTO metric_sums VALUES('job_duration','start','',1000,2,1212.0);
INSERT INTO metric_sums VALUES('job_duration','stop','',1000,1,729.0);
INSERT INTO metric_sums VALUES('jobs','install','succeeded',0,1,0.0);
INSERT INTO metric_sums VALUES('jobs','start','succeeded',0,2,0.0);
INSERT INTO metric_sums VALUES('jobs','stop','succeeded',0,1,0.0);
INSERT INTO metric_sums VALUES('queue_wait','','',50,4,14.0);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('users',3);
INSERT INTO sqlite_sequence VALUES('events',37);
INSERT INTO sqlite_sequence VALUES('overlays',2);
INSERT INTO sqlite_sequence VALUES('blueprints',3);
INSERT INTO sqlite_sequence VALUES('servers',4);
INSERT INTO sqlite_sequence VALUES('tokens',1);
INSERT INTO sqlite_sequence VALUES('jobs',4);
INSERT INTO sqlite_sequence VALUES('tasks',8);
INSERT INTO sqlite_sequence VALUES('runners',10);
CREATE INDEX tokens_of_user ON tokens (user_id);
CREATE INDEX sessions_of_user ON sessions (user_id) WHERE ended_at IS NULL;
CREATE INDEX blueprint_overlays_of_overlay ON blueprint_overlays (overlay_id);
CREATE INDEX servers_of_blueprint ON servers (blueprint_id);
CREATE INDEX jobs_queued ON jobs (id) WHERE state = 'queued';
CREATE INDEX jobs_queued_exclusive ON jobs (id) WHERE state = 'queued' AND operation IN ('install', 'update');
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
CREATE TRIGGER metrics_of_jobs_begun AFTER UPDATE OF started_at ON jobs
WHEN old.started_at IS NULL AND new.started_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('queue_wait', '', '', new.started_at - new.created_at);
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
COMMIT;
PRAGMA user_version = 5;
