package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/pairing"
	"nigh/agent/policy"
	"nigh/agent/private"
)

// bootPlaces are where the file may be that sets up a device nobody sits at: on the boot partition of a Raspberry Pi, which any
// computer can write while the card is in it. It counts at the device's first start, once.
var bootPlaces = []string{"/boot/firmware/nigh.toml", "/boot/nigh.toml"}

// Bounds of the file.
const (
	maxBootBytes   = 64 << 10
	maxBootTrusted = 256
)

// boot is what the file says.
type boot struct {
	path     string
	settings map[string]string // by key, as `nigh config set` takes them
	trusted  []identity.DeviceID
	code     *pairing.SetupCode // nil for none
}

// bootRecord is what the database has about the file.
type bootRecord struct {
	Path    string `json:"path"`
	Applied bool   `json:"applied,omitempty"`
	Code    bool   `json:"code,omitempty"` // it has a setup code
}

const bootBucket = "boot"

var bootKey = []byte("file")

// readBoot returns what the file on the boot partition says when that counts now: at the first start, and at later ones until it
// was without a mistake. Else it returns nil, and what there is to say about it is a notice. It is called before the device has
// a key: that tells a first start from others.
func (a *Agent) readBoot() *boot {
	var r bootRecord
	err := a.store.Bucket(bootBucket).Get(bootKey, &r)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.bootFailed(err)
		return nil
	}
	begun := err == nil
	path, places := "", bootPlaces
	if a.cfg.BootFile != "" {
		places = []string{a.cfg.BootFile}
	}
	for _, p := range places {
		if _, err := os.Lstat(p); path == "" && err == nil {
			path = p
		}
	}
	switch _, err := os.Lstat(filepath.Join(a.cfg.State, identity.KeyFile)); {
	case path == "":
		return nil
	case r.Applied && r.Code && path == r.Path:
		a.bootSecret(path)
		return nil
	case r.Applied:
		return nil
	case !begun && err == nil:
		a.notices = append(a.notices, path+" is not read: it is for the first start of a device, and this one was set up before.")
		return nil
	}
	// First, so that a power cut later on leaves it to the next start.
	if err := a.store.Bucket(bootBucket).Put(bootKey, bootRecord{Path: path}); err != nil {
		a.bootFailed(err)
		return nil
	}
	b, err := parseBoot(path, a.cfg.bootOwner())
	if err != nil {
		a.bootFailed(err)
		return nil
	}
	return b
}

// bootOwner is who may own the file, beside whoever runs the agent: root, but in tests.
func (c *Config) bootOwner() int {
	if c.BootFile != "" {
		return os.Geteuid()
	}
	return 0
}

// bootFailed says what is wrong with the file, in status and log; the agent starts without it.
func (a *Agent) bootFailed(err error) {
	text := clean.Text(strings.TrimPrefix(err.Error(), ErrConfig.Error()+": "))
	if e, ok := errors.AsType[*control.Error](err); ok {
		text = e.Message
	}
	a.log.Error("File on the boot partition does not count", "err", text)
	a.notices = append(a.notices, "The file on the boot partition does not count: "+text+". Nothing of it was taken; it is read again at the next start.")
}

func (a *Agent) bootSecret(path string) {
	a.notices = append(a.notices, "The setup code in "+path+" is no secret from whoever can read this file or holds the card: remove the file, and when all devices are paired run nigh setup-code --new.")
}

// parseBoot reads the file. It is refused unless it is a regular one that only its owner, root or whoever runs this, can write,
// in such a folder; a link is not followed. Errors name the line, and never quote what may be a secret.
func parseBoot(path string, owner int) (*boot, error) {
	raw, err := private.ReadGuarded(path, maxBootBytes, "root or the user of nigh", owner, os.Geteuid())
	if err != nil {
		return nil, err
	}
	b, err := readBootText(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	b.path = path
	return b, nil
}

// readBootText reads the text of the file; errors begin with the line.
func readBootText(raw []byte) (*boot, error) {
	// Editors of other systems begin a file with this.
	raw = []byte(strings.TrimPrefix(string(raw), "\ufeff"))
	var values map[string]any
	if err := toml.Unmarshal(raw, &values); err != nil {
		if e, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ := e.Position()
			return nil, fmt.Errorf("line %d is not TOML: a text stands in quotes, a list in [ ]", line) // the library's text may quote it
		}
		return nil, errors.New("is not TOML")
	}
	lines := policy.Lines(raw)
	b := &boot{settings: map[string]string{}}
	for key, value := range values {
		wrong := func(what string) error {
			if lines[key] == 0 {
				return fmt.Errorf("table %s: %s", clean.Text(key), what)
			}
			return fmt.Errorf("line %d: %s %s", lines[key], clean.Text(key), what)
		}
		switch key {
		case "setup_code":
			text, _ := value.(string)
			c, err := pairing.ParseSetupCode(text)
			if err != nil {
				return nil, wrong("is no setup code; nigh setup-code on another device makes one")
			}
			b.code = &c
		case "trusted":
			list, ok := value.([]any)
			if !ok || len(list) > maxBootTrusted {
				return nil, wrong(fmt.Sprintf("must be a list of at most %d device IDs", maxBootTrusted))
			}
			for _, item := range list {
				text, _ := item.(string)
				id, err := identity.ParseDeviceID(text)
				if err != nil {
					return nil, wrong("has an item that is no whole device ID; nigh id on that device prints it")
				}
				b.trusted = append(b.trusted, id)
			}
		default:
			var probe Settings
			text := fmt.Sprint(value)
			if known, err := probe.put(key, text); !known {
				return nil, wrong("is unknown here")
			} else if err != nil {
				return nil, wrong(err.Error())
			}
			b.settings[key] = text
		}
	}
	return b, nil
}

// bootSettings has the settings of the file count, as if a person had chosen them; what is set elsewhere stays. It reports
// whether the rest of the file counts too.
func (a *Agent) bootSettings(b *boot) bool {
	cfg := a.cfg
	cfg.Settings = a.given
	for key := range b.settings {
		if from := cfg.origin[key]; from != "" || key == "name" && a.now().policy.Name != "" {
			a.log.Info("Setting on the boot partition is set elsewhere", "key", key)
			delete(b.settings, key)
		}
	}
	_, err := cfg.choose(control.SettingsRequest{Set: b.settings, Asked: true})
	if err != nil {
		a.bootFailed(err)
		return false
	}
	now, err := completeRules(&cfg)
	if err != nil {
		a.bootFailed(err)
		return false
	}
	a.cfg = cfg
	a.ruling.now.Store(now)
	return true
}

// bootTrust makes the devices of the file trusted.
func (a *Agent) bootTrust(b *boot) {
	for _, id := range b.trusted {
		if id == a.id.ID {
			continue
		}
		if err := a.trust.Add(id, ""); err != nil {
			a.log.Error("Device on the boot partition was not trusted", "peer", id.Short(), "err", err)
			a.notices = append(a.notices, "The device "+id.Short()+", which "+b.path+" names, was not trusted: "+clean.Text(last(err))+".")
		}
	}
}

// bootDone takes the setup code and writes down that the file was applied: it never is again.
func (a *Agent) bootDone(b *boot) error {
	if b.code != nil {
		if err := a.pairing.Give(*b.code); err != nil {
			return err
		}
		a.bootSecret(b.path)
	}
	a.log.Info("Set up by the file on the boot partition", "path", b.path, "settings", len(b.settings), "trusted", len(b.trusted), "setup_code", b.code != nil)
	return a.store.Bucket(bootBucket).Put(bootKey, bootRecord{Path: b.path, Applied: true, Code: b.code != nil})
}
