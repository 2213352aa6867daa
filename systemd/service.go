package systemd

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	accounts "os/user"
	"path/filepath"
	"strings"
)

// packagedProgram is where packages have the program.
const packagedProgram = "/usr/bin/nigh"

// DefaultPrefix is where [Install] puts the program and its files, as an administrator's own.
const DefaultPrefix = "/usr/local"

var (
	// ErrRoot is returned to whoever may not change the system.
	ErrRoot = errors.New("systemd: only root may change the services of a machine")
	// ErrNoSystemd is returned where systemd does not run.
	ErrNoSystemd = errors.New("systemd: systemd does not run this machine")
	// ErrUser is returned for a user whose agent cannot be a service: unknown, or without a home.
	ErrUser = errors.New("systemd: no such user with a home")
	// ErrPackaged is returned when the files are those of a package, which takes care of them itself.
	ErrPackaged = errors.New("systemd: nigh is installed by a package")
)

// shipped is the install script with what it puts in place, but for the program and its manual.
//
//go:embed install steps nigh-wifi nigh-wifi.service nigh@.service nigh.user.service nigh.sysusers nigh.dbus.conf zz-nigh.dbus.conf 10-nigh-p2p.network
//go:embed 10-nigh-p2p.link nigh.networkmanager.conf nigh.firewalld-service.xml nigh.firewalld-zone.xml nigh.ufw
var shipped embed.FS

// A Setup says what [Install] and [Remove] work on.
type Setup struct {
	Program string // path of the program that is installed
	Manual  string // text of its man page
	Prefix  string // "" = DefaultPrefix
	User    string // whose agent runs as a service; "" = nobody's
	Root    string // folder that stands for /, in which nothing is started; "" = the machine itself
}

// Install puts the program and its system files in place, as make install does, and then starts the service of the user, now and
// at each boot. It returns what the recipe says to the administrator. What is there already is written anew: it is also how to
// update. Where a package has put them in place, the package's program starts the service, and does no more. Install blocks until
// the agent is ready, or ctx ends.
//
// The error wraps [ErrRoot], [ErrNoSystemd], [ErrUser] or [ErrPackaged], before anything was changed; any other is what a program
// that it ran has said.
func Install(ctx context.Context, s Setup) (string, error) {
	err := s.check()
	packaged := errors.Is(err, ErrPackaged) && s.Program == packagedProgram && s.User != ""
	if err != nil && !packaged {
		return "", err
	}
	unit, beside := Unit(s.User), ""
	if s.User != "" {
		home, err := homeOf(s.User)
		if err != nil {
			return "", err
		}
		beside = dropIn(s.User, home)
	}
	said := "" // where a package has put everything in place
	if !packaged {
		if said, err = s.recipe(ctx, "install"); err != nil {
			return said, err
		}
	}
	if s.User == "" || s.Root != "" {
		return said, nil
	}
	if err := writeDropIn(unit, beside); err != nil {
		return said, err
	}
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return said, err
	}
	if _, err := systemctl(ctx, "--quiet", "enable", unit); err != nil {
		return said, err
	}
	_, err = systemctl(ctx, "restart", unit)
	return said, err
}

// Remove stops the services of all users and takes away what [Install] has put in place. Keys, settings and received files stay. It
// returns what the recipe says. The errors are those of Install but [ErrUser].
func Remove(ctx context.Context, s Setup) (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	return s.recipe(ctx, "uninstall")
}

func (s *Setup) check() error {
	if s.Prefix == "" {
		s.Prefix = DefaultPrefix
	}
	switch {
	case s.Root != "":
		return nil
	case !Running():
		return ErrNoSystemd
	case os.Geteuid() != 0:
		return ErrRoot
	case s.Prefix != "/usr" && isFile("/usr/lib/systemd/system/nigh@.service"):
		return ErrPackaged
	}
	return nil
}

// Running reports whether systemd runs this machine (sd_booted(3)).
func Running() bool {
	_, err := os.Lstat("/run/systemd/system")
	return err == nil
}

// Unit is the name of a user's unit.
func Unit(user string) string { return "nigh@" + user + ".service" }

// recipe runs the install script from a folder of its own.
func (s *Setup) recipe(ctx context.Context, action string) (said string, err error) {
	dir, err := os.MkdirTemp("", "nigh-service-")
	if err != nil {
		return "", fmt.Errorf("systemd: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := Unpack(dir, s.Manual); err != nil {
		return "", fmt.Errorf("systemd: %w", err)
	}
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(dir, "systemd", "install"), action)
	cmd.Env = append(os.Environ(), "DESTDIR="+s.Root, "PREFIX="+s.Prefix, "BINARY="+s.Program)
	return output(cmd)
}

// Unpack lays the install script and what it puts in place out below dir as they are in the source, but for the program: dir/systemd,
// and dir/cli with the man page, whose text is manual. It makes dir.
func Unpack(dir, manual string) error {
	if err := os.CopyFS(filepath.Join(dir, "systemd"), shipped); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "cli"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cli", "nigh.1"), []byte(manual), 0o600)
}

// homeOf is the home of a user, who may run an agent.
func homeOf(name string) (string, error) {
	u, err := accounts.Lookup(name)
	if err != nil || !filepath.IsAbs(u.HomeDir) || u.HomeDir == "/" {
		return "", fmt.Errorf("%w: %s", ErrUser, name)
	}
	if info, err := os.Stat(u.HomeDir); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: %s", ErrUser, name)
	}
	return filepath.Clean(u.HomeDir), nil
}

// dropIn is what the unit of a user needs whose home is elsewhere: it shows the agent /home/USER and no other home.
func dropIn(name, home string) string {
	if home == "/home/"+name {
		return ""
	}
	line := "ReadWritePaths="
	for _, hidden := range []string{"/home", "/root", "/run/user"} { // ProtectHome=
		if home == hidden || strings.HasPrefix(home, hidden+"/") {
			line = "BindPaths="
		}
	}
	return "# The home of " + name + ", written by nigh service install.\n[Service]\n" + line + escaped(home) + "\n"
}

// escaped is a path as systemd.syntax(7) wants it in a list.
func escaped(path string) string {
	r := strings.NewReplacer("%", "%%", `\`, `\\`, " ", `\x20`, "\t", `\x09`, "\n", `\x0a`, `"`, `\x22`, "'", `\x27`, ":", `\:`)
	return r.Replace(path)
}

func dropInPath(unit string) string {
	return filepath.Join("/etc/systemd/system", unit+".d", "nigh-home.conf")
}

// writeDropIn writes what a unit needs beside it, or takes away what it needs no more.
func writeDropIn(unit, text string) error {
	path := dropInPath(unit)
	if text == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("systemd: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	return nil
}

// State is what systemd says of the service of one user.
type State struct {
	Unit    string // its name
	File    string // the unit file; "" = not installed
	Enabled bool   // it starts at boot
	Active  string // active, activating, reloading, deactivating, inactive or failed
	Result  string // why the last run ended: success, exit-code, watchdog, ...
	Since   string // when it came into that state, as systemd writes it; "" = never
}

// Status asks systemd for the service of a user. Everybody may ask. The error wraps [ErrNoSystemd].
func Status(ctx context.Context, user string) (State, error) {
	if !Running() {
		return State{}, ErrNoSystemd
	}
	s := State{Unit: Unit(user)}
	out, err := systemctl(ctx, "show", "--property=FragmentPath,UnitFileState,ActiveState,Result,StateChangeTimestamp", s.Unit)
	if err != nil {
		return State{}, err
	}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "FragmentPath":
			s.File = value
		case "UnitFileState":
			s.Enabled = value == "enabled"
		case "ActiveState":
			s.Active = value
		case "Result":
			s.Result = value
		case "StateChangeTimestamp":
			s.Since = value
		}
	}
	return s, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func systemctl(ctx context.Context, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, "systemctl", args...))
}

// output runs a command and returns what it says; the error has what it said of why it failed.
func output(cmd *exec.Cmd) (string, error) {
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		why := strings.TrimSpace(failed.String())
		if why == "" {
			why = err.Error()
		}
		return string(out), fmt.Errorf("systemd: %s: %s", filepath.Base(cmd.Args[0]), why)
	}
	return string(out), nil
}
