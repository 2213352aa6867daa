package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"nigh/agent/clean"
	"nigh/agent/identity"
	"nigh/agent/policy"
	"nigh/agent/sandbox"
	"nigh/agent/transfer"
	"nigh/wpa"
)

// ErrConfig is wrapped by every error about a configuration file, variable or
// flag; its text names the key and the place.
var ErrConfig = errors.New("configuration")

// Accept says which offers are taken without asking a person.
type Accept string

// The policies of [Settings.Accept].
const (
	AcceptAsk     Accept = "ask"     // ask, except for devices whose trust entry says auto-accept
	AcceptTrusted Accept = "trusted" // take from every trusted device
	AcceptAll     Accept = "all"     // take from anybody who can reach this device
)

// Visibility says who can tell who this device is before a connection.
type Visibility string

// The policies of [Settings.Visibility]. Whoever connects to the session's port
// learns the device's key with every one of them: TLS shows it.
const (
	VisibleEveryone Visibility = "everyone" // name, short ID and key are announced
	VisibleTrusted  Visibility = "trusted"  // announced under names that change; trusted devices recognise it
	VisibleHidden   Visibility = "hidden"   // not announced, and found by Wi-Fi Direct only while it searches or has a group
)

// Join says which devices may form a Wi-Fi Direct group with this one without a
// person's yes.
type Join string

// The policies of [Settings.Join].
const (
	JoinTrusted Join = "trusted" // every trusted device, proved by the PIN that both derive
	JoinAsk     Join = "ask"     // none
)

// Settings are what a person may choose: the keys of config.toml, overridden
// by NIGH_* variables and then by flags. Zero fields mean the default.
type Settings struct {
	Name       string     `toml:"name"`       // shown to others, at most 40 bytes
	Accept     Accept     `toml:"accept"`     // default "ask"
	Visibility Visibility `toml:"visibility"` // default "everyone"
	Join       Join       `toml:"join"`       // default "trusted"
	Inbox      string     `toml:"inbox"`      // default $XDG_DOWNLOAD_DIR/nigh
	Listen     string     `toml:"listen"`     // default ":7421"
	Direct     *bool      `toml:"direct"`     // Wi-Fi Direct on or off, default on
	Interfaces []string   `toml:"interfaces"` // use only these links, default all sensible ones
	Intent     *int       `toml:"intent"`     // GO intent 0..15, default by power and radio
	Engine     string     `toml:"engine"`     // who forms groups: "system", "private" or "networkmanager", default "auto"

	// Bounds; 0 is none. The policy of the machine may have stricter ones.
	Receive        *bool        `toml:"receive"`          // take anything at all, default on
	MaxSize        policy.Size  `toml:"max_size"`         // most bytes of an offer that is taken
	RateUp         policy.Size  `toml:"rate_up"`          // most bytes per second, of all transfers together ..
	RateDown       policy.Size  `toml:"rate_down"`        // .. to others and from them
	DeviceRateUp   policy.Size  `toml:"device_rate_up"`   // the same of those with one device
	DeviceRateDown policy.Size  `toml:"device_rate_down"` // likewise
	Transfers      int          `toml:"transfers"`        // most received at once, default 4
	Sources        int          `toml:"sources"`          // most devices that one transfer is fetched from at once, default 4
	MinFree        policy.Size  `toml:"min_free"`         // bytes that stay free on a disk that is received to, default 1 GiB or 5 %
	Peers          policy.Peers `toml:"peers"`            // most devices connected at once

	Hooks         policy.Hooks `toml:"hooks"`         // commands run on events
	Notifications *bool        `toml:"notifications"` // on the user's desktop, default on
	Mouse         *bool        `toml:"mouse"`         // the terminal UI takes the wheel and clicks, default off

	asked  bool              // the questions of the first run are behind us
	file   string            // that they were read from, "" for none
	origin map[string]string // where a setting is from, by its key: "FILE:LINE", "environment NAME" or "flag"
}

// Config is everything [New] needs.
type Config struct {
	Settings
	Logger  *slog.Logger     // nil discards
	Sandbox *sandbox.Sandbox // that Run enters, with the whole process; nil runs without, for the reason in Loose
	Loose   string           // one sentence
	State   string           // state folder, 0700; "" = DefaultState()
	Socket  string           // control socket; "" = control.SocketPath()
	Version string           // shown in status and hello
	Mode    string           // "service", "foreground" or "embedded"
	Bus     string           // D-Bus address of wpa_supplicant, "" = the system bus
	// Reload reads the settings again, as they were read for this Config. nil: they stay.
	Reload func() (Settings, error)
	// SetupCodeFile has the setup code of a device that nobody sits at ([pairing.Engine.Provision]); "" for none.
	SetupCodeFile string
	// BootFile is in place of those on the boot partition, for tests in this process; the program never sets it.
	BootFile string
	// PolicyFile is in place of the machine's policy, for tests in this process; the
	// program never sets it. Whoever runs the test owns it.
	PolicyFile string
}

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 64 << 10

// LoadSettings reads a TOML file and then the NIGH_* variables of environ (as
// os.Environ gives them). A missing file is no error when path is "" and the
// default place is meant. An unknown key, a wrong type or a value out of range
// is an error wrapping [ErrConfig] that names the key and the line.
func LoadSettings(path string, environ []string) (Settings, error) {
	var s Settings
	optional := path == ""
	if optional {
		path = filepath.Join(DefaultConfigDir(), "config.toml")
	}
	f, err := s.open(path)
	switch {
	case err == nil:
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
		if err != nil {
			return s, fmt.Errorf("%w: read %s: %w", ErrConfig, path, err)
		}
		if len(raw) > maxConfigBytes {
			return s, fmt.Errorf("%w: %s is larger than %d bytes", ErrConfig, path, maxConfigBytes)
		}
		d := toml.NewDecoder(strings.NewReader(string(raw)))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return s, fmt.Errorf("%w: %s %w", ErrConfig, path, policy.Mistake(err))
		}
		for key, line := range policy.Lines(raw) {
			s.originOf(key, path+":"+strconv.Itoa(line))
		}
	case optional && errors.Is(err, fs.ErrNotExist):
	default:
		return s, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := s.environment(environ); err != nil {
		return s, err
	}
	return s, s.check()
}

// open opens a configuration file, which may be a link, and notes which one it is: in the
// sandbox it has to be granted to be read again.
func (s *Settings) open(path string) (*os.File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, err
	}
	s.file = real
	fd, err := sandbox.Openat(unix.AT_FDCWD, real, unix.O_RDONLY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// environment overrides s with the NIGH_* variables that are set.
func (s *Settings) environment(environ []string) error {
	for _, kv := range environ {
		name, v, _ := strings.Cut(kv, "=")
		short, ok := strings.CutPrefix(name, "NIGH_")
		if v == "" || !ok {
			continue
		}
		key := strings.ToLower(short)
		if key == "peers_max" {
			key = "peers.max"
		}
		known, err := s.put(key, v)
		if err != nil {
			return fmt.Errorf("%w: %s %w", ErrConfig, name, err)
		}
		if known {
			s.originOf(key, "environment "+name)
		}
	}
	return nil
}

// put gives a setting the value that a person wrote; it reports false for what is none.
func (s *Settings) put(key, v string) (known bool, err error) {
	toggle := func(to **bool) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("must be true or false, not %q", v)
		}
		*to = &on
		return nil
	}
	count := func(to *int) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("must be a number, not %q", v)
		}
		*to = n
		return nil
	}
	switch key {
	case "name":
		s.Name = v
	case "accept":
		s.Accept = Accept(v)
	case "visibility":
		s.Visibility = Visibility(v)
	case "join":
		s.Join = Join(v)
	case "inbox":
		s.Inbox = v
	case "listen":
		s.Listen = v
	case "engine":
		s.Engine = v
	case "direct":
		err = toggle(&s.Direct)
	case "mouse":
		err = toggle(&s.Mouse)
	case "receive":
		err = toggle(&s.Receive)
	case "notifications":
		err = toggle(&s.Notifications)
	case "max_size":
		err = s.MaxSize.UnmarshalText([]byte(v))
	case "rate_up":
		err = s.RateUp.UnmarshalText([]byte(v))
	case "rate_down":
		err = s.RateDown.UnmarshalText([]byte(v))
	case "device_rate_up":
		err = s.DeviceRateUp.UnmarshalText([]byte(v))
	case "device_rate_down":
		err = s.DeviceRateDown.UnmarshalText([]byte(v))
	case "min_free":
		err = s.MinFree.UnmarshalText([]byte(v))
	case "transfers":
		err = count(&s.Transfers)
	case "sources":
		err = count(&s.Sources)
	case "peers.max":
		err = count(&s.Peers.Max)
	default:
		return false, nil
	}
	return true, err
}

// Flag gives a setting the value of a flag of the command line; "" leaves it. The error
// wraps [ErrConfig].
func (s *Settings) Flag(key, v string) error {
	if v == "" {
		return nil
	}
	if key == "interfaces" {
		s.Interfaces = strings.Split(v, ",")
	} else if _, err := s.put(key, v); err != nil {
		return fmt.Errorf("%w: %s %w", ErrConfig, key, err)
	}
	s.originOf(key, "flag")
	return nil
}

// check reports the first value that is out of range.
func (s Settings) check() error {
	hook, badHook := s.Hooks.Check()
	switch {
	case len(s.Name) > maxNameBytes:
		return fmt.Errorf("%w: name is longer than %d bytes", ErrConfig, maxNameBytes)
	case clean.Text(s.Name) != s.Name:
		return fmt.Errorf("%w: name has characters that cannot be shown", ErrConfig)
	case s.Accept != "" && !slices.Contains([]Accept{AcceptAsk, AcceptTrusted, AcceptAll}, s.Accept):
		return fmt.Errorf("%w: accept must be ask, trusted or all, not %q", ErrConfig, s.Accept)
	case !slices.Contains(engines(), s.Engine):
		return fmt.Errorf("%w: engine must be one of %s, not %q", ErrConfig, strings.Join(engines()[1:], ", "), s.Engine)
	case s.Visibility != "" && !slices.Contains([]Visibility{VisibleEveryone, VisibleTrusted, VisibleHidden}, s.Visibility):
		return fmt.Errorf("%w: visibility must be everyone, trusted or hidden, not %q", ErrConfig, s.Visibility)
	case s.Join != "" && !slices.Contains([]Join{JoinTrusted, JoinAsk}, s.Join):
		return fmt.Errorf("%w: join must be trusted or ask, not %q", ErrConfig, s.Join)
	case badHook != "":
		return fmt.Errorf("%w: %s %s", ErrConfig, hook, badHook)
	case s.Transfers < 0, s.Peers.Max < 0:
		return fmt.Errorf("%w: transfers and peers.max cannot be below zero", ErrConfig)
	case s.Sources < 0, s.Sources > transfer.MaxSources:
		return fmt.Errorf("%w: sources must be 1 to %d, not %d", ErrConfig, transfer.MaxSources, s.Sources)
	case s.Intent != nil && (*s.Intent < 0 || *s.Intent > 15):
		return fmt.Errorf("%w: intent must be 0 to 15, not %d", ErrConfig, *s.Intent)
	}
	return nil
}

// engineAuto leaves the choice of an engine to package wpa.
const engineAuto = "auto"

// engines are the values of [Settings.Engine]; the first means the default.
func engines() []string {
	all := []string{"", engineAuto}
	for _, e := range wpa.Engines {
		all = append(all, string(e))
	}
	return all
}

// Complete fills in the defaults and makes paths absolute; [New] does it, too.
// It returns an error wrapping [ErrConfig] when a value is out of range.
func (c *Config) Complete() error {
	if c.State == "" {
		c.State = DefaultState()
	}
	c.State = expandHome(c.State)
	picked, err := readChosen(c.State)
	if err != nil {
		return err
	}
	if err := c.pick(picked); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		host, _ := os.Hostname()           // "" says as much
		id, _ := identity.Current(c.State) // there is none before the first start
		c.Name = defaultName(host, id)
	}
	if c.Accept == "" {
		c.Accept = AcceptAsk
	}
	if c.Engine == "" {
		c.Engine = engineAuto
	}
	if c.Visibility == "" {
		c.Visibility = VisibleEveryone
	}
	if c.Join == "" {
		c.Join = JoinTrusted
	}
	if c.Inbox == "" {
		c.Inbox = defaultInbox()
	}
	for _, p := range []*string{&c.State, &c.Inbox} {
		abs, err := filepath.Abs(expandHome(*p))
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConfig, *p, err)
		}
		*p = abs
	}
	return nil
}

// DefaultConfigDir is $XDG_CONFIG_HOME/nigh, by default ~/.config/nigh.
func DefaultConfigDir() string { return xdg("XDG_CONFIG_HOME", ".config") }

// DefaultState is $NIGH_STATE, else $XDG_STATE_HOME/nigh, by default
// ~/.local/state/nigh.
func DefaultState() string {
	if dir := os.Getenv("NIGH_STATE"); dir != "" {
		return dir
	}
	return xdg("XDG_STATE_HOME", ".local/state")
}

// defaultInbox is $XDG_DOWNLOAD_DIR/nigh, by default ~/Downloads/nigh.
func defaultInbox() string { return xdg("XDG_DOWNLOAD_DIR", "Downloads") }

func xdg(variable, fallback string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "nigh")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		// A service without HOME still has a working folder of its own.
		home = "/var/lib"
	}
	return filepath.Join(home, fallback, "nigh")
}

func expandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}
