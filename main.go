// Command nigh links machines that are near each other, without a router or the
// internet, and moves files between them. See README.md.
//
// This file is the only one that sees everything: it reads the settings, runs
// the agent, and gives the command line what it may not import.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"nigh/agent"
	"nigh/agent/control"
	"nigh/agent/desktop"
	"nigh/agent/doctor"
	"nigh/agent/identity"
	"nigh/agent/sandbox"
	"nigh/cli"
)

// version is set by the release build; a build from a checkout says which.
var version = ""

func main() {
	if sandbox.Broker() {
		return
	}
	ending := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if service() {
		signal.Ignore(syscall.SIGHUP) // until there is an agent to reload
	} else {
		ending = append(ending, syscall.SIGHUP) // the terminal is closed
	}
	ctx, stop := signal.NotifyContext(context.Background(), ending...)
	env := cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: programVersion(),
		RunAgent: runAgent, RunTUI: runTUI, Diagnose: diagnose, Identity: ownIdentity, ExportKey: exportKey, ImportKey: importKey, Settings: effective, Choose: choose, Remedies: remedies(), Report: report, Beside: beside,
		Service: serviceManager(),
	}
	code := cli.Main(ctx, os.Args[1:], env)
	stop()
	os.Exit(code)
}

func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}

// settings reads the configuration and puts the flags over it.
func settings(o cli.AgentOptions) (agent.Config, error) {
	read := func() (agent.Settings, error) { return readSettings(o) }
	s, err := read()
	return agent.Config{
		Settings: s, State: o.State, Socket: o.Socket, Version: programVersion(), Mode: "foreground",
		Bus: os.Getenv("NIGH_WPA_BUS"), Reload: read, SetupCodeFile: setupCodeFile(o),
	}, err
}

// setupCodeFile is the file with the setup code: that of the flag, else the credential of
// that name which a service manager gives ("" when it gives none).
func setupCodeFile(o cli.AgentOptions) string {
	if o.SetupCode != "" {
		return o.SetupCode
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, "setup-code")
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

func readSettings(o cli.AgentOptions) (agent.Settings, error) {
	path := o.Config
	if path == "" {
		path = os.Getenv("NIGH_CONFIG")
	}
	s, err := agent.LoadSettings(path, os.Environ())
	if err != nil {
		return s, err
	}
	direct := ""
	if o.NoDirect {
		direct = "false"
	}
	for _, f := range [][2]string{
		{"name", o.Name}, {"inbox", o.Inbox}, {"listen", o.Listen}, {"engine", o.Engine}, {"accept", o.Accept}, {"visibility", o.Visibility},
		{"interfaces", strings.Join(o.Interfaces, ",")}, {"direct", direct},
	} {
		if err := s.Flag(f[0], f[1]); err != nil {
			return s, err
		}
	}
	return s, nil
}

// effective is `nigh config show` without an agent.
func effective(context.Context) ([]control.Setting, error) {
	cfg, err := settings(cli.AgentOptions{})
	if err != nil {
		return nil, agent.Explain(err)
	}
	list, err := agent.EffectiveSettings(cfg)
	if err != nil {
		return nil, agent.Explain(err)
	}
	return list, nil
}

// choose is `nigh config set` without an agent.
func choose(_ context.Context, r control.SettingsRequest) error {
	cfg, err := settings(cli.AgentOptions{})
	if err != nil {
		return agent.Explain(err)
	}
	return agent.Choose(cfg, r)
}

// garbage is how much of what the agent's heap holds may be garbage, in percent. The heap is a few megabytes: to collect it more
// often costs next to nothing, and a small machine has the memory all the time.
const garbage = 50

// runAgent is `nigh agent`.
func runAgent(ctx context.Context, o cli.AgentOptions) error {
	cfg, err := settings(o)
	if err != nil {
		return agent.Explain(err)
	}
	if service() {
		cfg.Mode = "service"
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	cfg.Logger = logger(os.Stderr, o.Verbose)
	box, err := sandbox.Start()
	if err != nil {
		cfg.Loose = err.Error()
	} else {
		defer box.Close()
		cfg.Sandbox = box
	}
	return serve(ctx, cfg)
}

// service reports whether a service manager runs this program: SIGHUP then asks for the
// configuration and the policy to be read again.
func service() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// serve runs one agent until ctx ends.
func serve(ctx context.Context, cfg agent.Config) error {
	a, err := agent.New(cfg)
	if err != nil {
		return agent.Explain(err)
	}
	if service() {
		stop := reloadAtHangup(a)
		defer stop()
	}
	defer notify(ctx, a.Socket())()
	if err := a.Run(ctx); err != nil {
		return agent.Explain(err)
	}
	return nil
}

// notify shows on the desktop of this process, if it has one, what the agent at a socket tells, until the returned function
// ends that.
func notify(ctx context.Context, socket string) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	var showing sync.WaitGroup
	showing.Go(func() { desktop.Follow(ctx, &control.Client{Socket: socket}, desktop.Bus()) })
	return func() {
		end()
		showing.Wait()
	}
}

// reloadAtHangup has an agent read its configuration and the policy again at SIGHUP,
// until the returned function ends that.
func reloadAtHangup(a *agent.Agent) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range hangups {
			_ = a.Reload() // it says itself in status and log what is wrong
		}
	})
	return func() {
		signal.Stop(hangups)
		close(hangups)
		wg.Wait()
	}
}

// logger writes to w: under systemd with the priority that the journal reads
// and without a time of our own, else as plain text.
func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose || os.Getenv("NIGH_LOG") == "debug" {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") == "" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(journal{slog.NewTextHandler(w, options), w, &sync.Mutex{}})
}

// journal puts sd-daemon(3)'s priority before each line.
type journal struct {
	slog.Handler
	w  io.Writer
	mu *sync.Mutex // keeps a priority and its line together
}

// Handle writes one record with its priority.
func (j journal) Handle(ctx context.Context, r slog.Record) error {
	prefix := "<6>"
	switch {
	case r.Level >= slog.LevelError:
		prefix = "<3>"
	case r.Level >= slog.LevelWarn:
		prefix = "<4>"
	case r.Level < slog.LevelInfo:
		prefix = "<7>"
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := io.WriteString(j.w, prefix); err != nil {
		return err
	}
	return j.Handler.Handle(ctx, r)
}

// WithAttrs keeps the prefix on derived loggers.
func (j journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journal{j.Handler.WithAttrs(attrs), j.w, j.mu}
}

// WithGroup keeps the prefix on derived loggers.
func (j journal) WithGroup(name string) slog.Handler {
	return journal{j.Handler.WithGroup(name), j.w, j.mu}
}

// diagnose is `nigh doctor` without an agent.
func diagnose(ctx context.Context) []control.Check {
	cfg, err := settings(cli.AgentOptions{})
	if err != nil {
		e := agent.Explain(err)
		return []control.Check{{ID: "config", State: "fail", Cause: e.Message, Fix: e.Hint}}
	}
	return agent.Diagnose(ctx, cfg)
}

// beside is what root sees besides the agent.
func beside(ctx context.Context, checks []control.Check) []control.Check {
	cfg, err := settings(cli.AgentOptions{})
	if err != nil {
		return checks // the agent's own are the ones that count
	}
	return agent.Beside(ctx, cfg, checks)
}

// remedies are what `nigh doctor --fix` knows.
func remedies() []cli.Remedy {
	var all []cli.Remedy
	for _, r := range doctor.Remedies(os.Getenv("NIGH_WPA_BUS")) {
		all = append(all, cli.Remedy{
			Name: r.Name, Does: r.Does, Lost: r.Lost, Path: r.Path, Text: r.Text,
			Plan: r.Plan, InForce: r.InForce, Allowed: r.Allowed, Apply: r.Apply, Undo: r.Undo,
		})
	}
	return all
}

// exportKey is `nigh trust export --key`.
func exportKey(_ context.Context, o cli.KeyOptions) (cli.KeyExport, error) {
	cfg, err := settings(cli.AgentOptions{State: o.State})
	if err != nil {
		return cli.KeyExport{}, agent.Explain(err)
	}
	text, id, err := agent.ExportKey(cfg, o.Book, o.Passphrase)
	if err != nil {
		return cli.KeyExport{}, agent.Explain(err)
	}
	return cli.KeyExport{Text: text, Short: id.Short()}, nil
}

// importKey is `nigh trust import --key`.
func importKey(_ context.Context, o cli.KeyOptions) (cli.KeyImport, error) {
	cfg, err := settings(cli.AgentOptions{State: o.State})
	if err != nil {
		return cli.KeyImport{}, agent.Explain(err)
	}
	m, err := agent.ImportKey(cfg, o.Book, o.Passphrase, o.Replace)
	if err != nil {
		return cli.KeyImport{}, agent.Explain(err)
	}
	done := cli.KeyImport{
		Short: m.ID.Short(), Kept: m.Old,
		Trust: control.TrustImport{Trusted: m.Trusted, Blocked: m.Blocked, Kept: m.Kept, Refused: m.Refused},
	}
	if !m.Was.IsZero() {
		done.Was = m.Was.Short()
	}
	return done, nil
}

// ownIdentity is `nigh id` without an agent.
func ownIdentity(context.Context) (cli.Identity, error) {
	cfg, err := settings(cli.AgentOptions{})
	if err != nil {
		return cli.Identity{}, agent.Explain(err)
	}
	if err := cfg.Complete(); err != nil {
		return cli.Identity{}, agent.Explain(err)
	}
	id, err := identity.Load(cfg.State)
	if err != nil {
		return cli.Identity{}, agent.Explain(err)
	}
	return cli.Identity{ID: id.ID.String(), Short: id.ID.Short(), Name: cfg.Name}, nil
}
