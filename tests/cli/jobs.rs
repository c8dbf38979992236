//! Runs the README's recipes for jobs on other machines without changes: twice in a row, with
//! the server up and down, with simulations of `gh` and GitLab's API.

use std::path::PathBuf;

use crate::readme::recipe;
use crate::recipes::{BASH_E, Machine, start_server, stop_server};
use crate::support::world::EMAIL;
use crate::support::{Output, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("jobs::publish_and_read_github", publish_and_read_github),
        test("jobs::first_token", first_token),
        test("jobs::github", github),
        test("jobs::gitlab", gitlab),
    ]
}

/// A secret store of a CI service. Like a real one, it stores any value, even an empty one.
/// Records the size of each value and the arguments of each write.
struct Secrets(PathBuf);

impl Secrets {
    fn new(world: &World) -> Self {
        let dir = world.home().join("store");
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    /// Adds a command that stores its stdin as NAME if its arguments contain `arguments`.
    fn add_writer(&self, arguments: &str, name: &str) -> String {
        format!(
            "#!/bin/sh\n\
             case \"$*\" in *'{arguments}'*) ;; *) echo \"unexpected: $*\" >&2; exit 9 ;; esac\n\
             cat > '{dir}/{name}'\n\
             echo \"$(wc -c < '{dir}/{name}') $*\" >> '{dir}/log'\n",
            dir = self.0.display()
        )
    }

    fn get(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn set(&self, name: &str, value: &str) {
        std::fs::write(self.0.join(name), value).unwrap();
    }

    /// Returns the size of each value so far.
    fn written_sizes(&self) -> Vec<usize> {
        let log = std::fs::read_to_string(self.0.join("log")).unwrap_or_default();
        let count = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
        log.lines().map(count).collect()
    }

    /// Panics if an argument of a writer contained the secret.
    fn assert_not_in_arguments(&self, secret: &str) {
        let log = std::fs::read_to_string(self.0.join("log")).unwrap();
        assert!(!log.contains(secret), "{log}");
    }
}

/// While the server is down, the job that renews does not change the secret. Jobs never send a
/// refresh token.
fn publish_and_read_github() {
    let world = World::new(Store::File);
    world.login();
    let secrets = Secrets::new(&world);
    let renewer = Machine::of(&world);
    renewer.install();
    renewer.command("publish-token", &recipe("publish-github"));
    std::fs::create_dir(renewer.home().join("usr")).unwrap();
    renewer.command(
        "../usr/gh",
        &secrets.add_writer(
            "secret set REMEMBERIZER_ACCESS_TOKEN --env rememberizer --repo OWNER/REPO",
            "REMEMBERIZER_ACCESS_TOKEN",
        ),
    );
    let publish = || renewer.cron(&recipe("publish-cron"));
    let job = |name: &str| -> Output {
        let machine = Machine::new(&world, name);
        let steps = github_steps(&recipe("read-github"));
        let output = run_steps(&machine, &secrets, &steps);
        assert!(
            !machine.home().join(".local").exists(),
            "the job stores nothing"
        );
        output
    };
    for round in 0..2 {
        publish().expect(0);
        let output = job(&format!("job-{round}")).expect(0);
        assert!(output.stdout.contains(EMAIL), "{output:?}");
    }
    assert_eq!(world.api.exchanges(), 0, "more than four minutes are left");
    let first = secrets.get("REMEMBERIZER_ACCESS_TOKEN");
    secrets.assert_not_in_arguments(&first);

    stop_server(&world);
    world.expire_access();
    publish().expect(5);
    job("job-down").expect(5);
    assert_eq!(secrets.get("REMEMBERIZER_ACCESS_TOKEN"), first);
    assert_eq!(secrets.written_sizes(), [first.len(); 2]);

    start_server(&world);
    publish().expect(0);
    assert_ne!(secrets.get("REMEMBERIZER_ACCESS_TOKEN"), first);
    job("job-up").expect(0);
    assert_eq!(world.api.exchanges(), 1);
}

/// One step of a GitHub job.
#[derive(Debug, Default, Clone)]
struct Step {
    env: Vec<(String, String)>,
    run: String,
}

/// Parses the steps of a job, with the variables of the job. Supports the part of YAML that the
/// recipes use.
fn github_steps(job: &str) -> Vec<Step> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut shared = Step::default();
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = job.lines().peekable();
    while let Some(line) = lines.next() {
        let (key, value) = line.trim().split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        if key == "- name" {
            steps.push(shared.clone());
        }
        let step = steps.last_mut().unwrap_or(&mut shared);
        match key {
            "run" if value == "|" => {
                while let Some(more) = lines.next_if(|next| indent(next) > indent(line)) {
                    step.run += &format!("{}\n", more.trim());
                }
            }
            "run" => step.run = value.to_owned(),
            "env" => {
                while let Some(more) = lines.next_if(|next| indent(next) > indent(line)) {
                    let (name, value) = more.trim().split_once(": ").unwrap();
                    step.env.push((name.to_owned(), value.to_owned()));
                }
            }
            _ => {}
        }
    }
    assert!(steps.iter().all(|step| !step.run.is_empty()), "{steps:?}");
    steps
}

/// The repository of the jobs.
const REPOSITORY: &str = "ann/sync";

/// Runs the steps as GitHub does, up to the first step that fails. Returns the output of the
/// last step that ran.
fn run_steps(machine: &Machine<'_>, secrets: &Secrets, steps: &[Step]) -> Output {
    let mut outputs = steps.iter().map(|step| {
        let mut script = String::new();
        for (name, value) in &step.env {
            let expression = value
                .strip_prefix("${{ ")
                .and_then(|v| v.strip_suffix(" }}"));
            let value = match expression.unwrap().split_once("secrets.") {
                Some((_, secret)) => secrets.get(secret),
                None => REPOSITORY.to_owned(),
            };
            script += &format!("export {name}='{value}'\n");
        }
        machine.run(&BASH_E, &(script + &step.run))
    });
    let mut last = outputs.next().unwrap();
    while last.code == 0 {
        match outputs.next() {
            Some(output) => last = output,
            None => break,
        }
    }
    last
}

/// Checks a recipe that passes the session from one job to the next. `job` runs a whole job on
/// a new machine.
fn check_session_passing(world: &World, secrets: &Secrets, job: impl Fn(&Machine<'_>) -> Output) {
    let name = "REMEMBERIZER_TOKEN";
    let run = |number: u32| job(&Machine::new(world, &format!("runner-{number}")));
    let mut last = world.api.begin_session(EMAIL).refresh.unwrap();
    secrets.set(name, &last);
    for number in 0..2 {
        run(number).expect(0);
        let next = secrets.get(name).trim().to_owned();
        assert_ne!(next, last, "the server rotates");
        assert!(world.api.refresh_works(&next), "the next job can use it");
        secrets.assert_not_in_arguments(&next);
        last = next;
    }
    assert_eq!(secrets.written_sizes().len(), 2);

    stop_server(world);
    run(2).expect(5);
    assert_eq!(
        secrets.get(name).trim(),
        last,
        "a job whose login failed writes nothing"
    );
    assert_eq!(secrets.written_sizes().len(), 2);

    start_server(world);
    let fault = crate::sandbox::Fault::status(502, crate::sandbox::BodyKind::Html);
    world.api.fault(fault.at("/account/").times(u32::MAX));
    run(3).expect(5);
    start_server(world);
    assert!(
        world.api.refresh_works(secrets.get(name).trim()),
        "a job whose work failed hands the session on"
    );
    run(4).expect(0);
    assert!(
        secrets.written_sizes().iter().all(|bytes| *bytes > 0),
        "{:?}",
        secrets.written_sizes()
    );
}

/// Without a session, the recipe does not replace the secret. If the secret cannot be written,
/// the session stays.
fn first_token() {
    let world = World::new(Store::File);
    world.login();
    let secrets = Secrets::new(&world);
    let machine = Machine::of(&world);
    let run = || machine.run(&BASH_E, &recipe("first-token"));

    machine.command("gh", "#!/bin/sh\ncat > /dev/null\nexit 4\n");
    run().expect(4);
    world.run(&["whoami", "--offline"]).expect(0);

    let gh = "secret set REMEMBERIZER_TOKEN --env rememberizer --repo OWNER/REPO";
    machine.command("gh", &secrets.add_writer(gh, "REMEMBERIZER_TOKEN"));
    run().expect(0);
    let token = secrets.get("REMEMBERIZER_TOKEN");
    secrets.assert_not_in_arguments(&token);
    run().expect(3);
    assert_eq!(secrets.get("REMEMBERIZER_TOKEN"), token);
    assert!(world.api.refresh_works(&token), "the job can use it");
}

fn github() {
    let world = World::new(Store::File);
    let secrets = Secrets::new(&world);
    secrets.set("SECRETS_WRITER", "writer");
    let gh = secrets.add_writer(
        "secret set REMEMBERIZER_TOKEN --env rememberizer",
        "REMEMBERIZER_TOKEN",
    );
    let gh = gh.replace(
        "#!/bin/sh\n",
        &format!(
            "#!/bin/sh\n\
             [ \"$GH_TOKEN $GH_REPO\" = 'writer {REPOSITORY}' ] || exit 9\n\
             [ \"$*\" = 'secret list --env rememberizer' ] && exit\n"
        ),
    );
    let steps = github_steps(&recipe("github"));
    assert_eq!(steps.len(), 2);
    let job = |machine: &Machine<'_>| {
        machine.command("gh", &gh);
        run_steps(machine, &secrets, &steps)
    };
    check_session_passing(&world, &secrets, job);

    // No token is used while the secret store is unavailable.
    let token = secrets.get("REMEMBERIZER_TOKEN");
    secrets.set("SECRETS_WRITER", "revoked");
    job(&Machine::new(&world, "revoked")).expect(6);
    assert_eq!(secrets.get("REMEMBERIZER_TOKEN"), token);
    secrets.set("SECRETS_WRITER", "writer");
    job(&Machine::new(&world, "writes-again")).expect(0);
}

/// The response of GitLab's API contains the new value, which must not appear in the log.
fn gitlab() {
    let world = World::new(Store::File);
    let secrets = Secrets::new(&world);
    let script = gitlab_script(&recipe("gitlab"));
    check_session_passing(&world, &secrets, |machine| {
        let header = machine.home().join("writer");
        std::fs::write(&header, "PRIVATE-TOKEN: writer\n").unwrap();
        let arguments = format!(
            "-X PUT -H @{} --form value=<- https://gitlab.example/api/v4/projects/7/variables/REMEMBERIZER_TOKEN",
            header.display()
        );
        let curl = secrets.add_writer(&arguments, "REMEMBERIZER_TOKEN");
        let value = secrets.0.join("REMEMBERIZER_TOKEN");
        let response = format!(
            "case \"$*\" in *'-o /dev/null'*) ;; *) cat '{}' ;; esac\n",
            value.display()
        );
        machine.command("curl", &(curl + &response));
        let variables = format!(
            "export REMEMBERIZER_TOKEN='{}' WRITER='{}' CI_PROJECT_ID=7 \
             CI_API_V4_URL=https://gitlab.example/api/v4\n",
            secrets.get("REMEMBERIZER_TOKEN"),
            header.display()
        );
        let shell = ["bash", "-eo", "pipefail", "-c"];
        let output = machine.run(&shell, &(variables + &script));
        let new = secrets.get("REMEMBERIZER_TOKEN");
        assert!(!(output.stdout.clone() + &output.stderr).contains(new.trim()));
        output
    });
}

/// Parses the `script` of a job. Supports the part of YAML that the recipe uses.
fn gitlab_script(job: &str) -> String {
    let (_, lines) = job.split_once("  script:\n").unwrap();
    let mut script = String::new();
    for line in lines.lines() {
        match line.trim().strip_prefix("- ") {
            Some(">-") => script += "\n",
            Some(command) => script += &format!("\n{command}"),
            None => script += &format!(" {}", line.trim()),
        }
    }
    script
}
