package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"nigh/agent/doctor"
	"nigh/link"
)

// GO intents, 0 to 15 (Wi-Fi P2P specification 4.1.6). 15 and 0 as absolute words
// are left to the configuration: two devices that both say 15 form no group.
const (
	intentNever   = 0
	intentBattery = 7
	intentMains   = 13
	intentMore    = 1 // on top, for a device that several shall meet at
)

// ownerFacts are what decides how much this device wants to be group owner.
type ownerFacts struct {
	configured *int   // what the person wants; nil = not said
	driver     string // of the radio, as ethtool -i names it; "" = not known
	version    string // of the driver or its firmware, likewise
	battery    bool   // it runs on its battery now
	wanted     int    // devices to connect to
}

// intent is the GO intent for the next group, and why it is that one. A group
// owner sends beacons all the time and forwards what its members send each other,
// so that one with mains power is better at it.
func (f ownerFacts) intent() (n int, why string) {
	switch bad := badOwner(f.driver, f.version); {
	case f.configured != nil:
		return *f.configured, "the configuration says so"
	case bad != "":
		return intentNever, bad
	case f.battery:
		n, why = intentBattery, "this device runs on its battery"
	default:
		n, why = intentMains, "this device has mains power"
	}
	if f.wanted > 1 {
		n, why = n+intentMore, why+" and connects to several devices"
	}
	return n, why
}

// badOwner says why a radio must not own a group, "" when it may.
func badOwner(driver, version string) string {
	// The BCM43430/2 of some Zero 2 W: its firmware 9.88 does not deliver the
	// encrypted frames of an access point (RPi-Distro/firmware-nonfree#59). The
	// older BCM43430/1 has 7.45 and is fine.
	if driver == "brcmfmac" && strings.HasPrefix(version, "9.88.") {
		return "the firmware " + version + " of this radio loses encrypted frames as group owner"
	}
	return ""
}

// owner collects the facts about a radio on this machine.
func (c *Config) owner(ifname string) ownerFacts {
	f := ownerFacts{configured: c.Intent, battery: onBattery(os.DirFS("/sys/class/power_supply"))}
	if ifname != "" {
		f.driver, f.version = link.Driver(ifname)
	}
	return f
}

// onBattery reports whether the supplies in a folder such as
// /sys/class/power_supply (the kernel's Documentation/ABI/testing/sysfs-class-power)
// say that this machine runs on its battery. Without a battery it does not.
func onBattery(supplies fs.FS) bool {
	entries, err := fs.ReadDir(supplies, ".")
	if err != nil {
		return false
	}
	read := func(name, key string) string {
		raw, err := fs.ReadFile(supplies, path.Join(name, key))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(raw))
	}
	battery := false
	for _, e := range entries {
		name := e.Name()
		if read(name, "scope") == "Device" { // a mouse's battery, not the machine's
			continue
		}
		if read(name, "type") == "Battery" {
			battery = battery || read(name, "status") == "Discharging"
		} else if read(name, "online") == "1" {
			return false
		}
	}
	return battery
}

// errBadOwner is returned when this device is asked to own a group and must not.
var errBadOwner = errors.New("agent: this radio cannot own a group")

// intent is the GO intent for a group that is formed now with one more device.
func (d *direct) intent() int {
	n, _ := d.ownerFacts().intent()
	return n
}

func (d *direct) ownerFacts() ownerFacts {
	d.mu.Lock()
	ifname, wanted := "", len(d.wants)
	if d.radio != nil {
		ifname = d.radio.Status().Ifname
	}
	d.mu.Unlock()
	cfg := d.a.cfg
	cfg.Settings = d.a.now().Settings
	f := cfg.owner(ifname)
	f.wanted = wanted + 1
	return f
}

// mayOwn returns an error that wraps errBadOwner when this device must not own a
// group, whoever asks for it.
func (d *direct) mayOwn() error {
	f := d.ownerFacts()
	if bad := badOwner(f.driver, f.version); bad != "" && f.configured == nil {
		return fmt.Errorf("%w: %s", errBadOwner, bad)
	}
	return nil
}

// ownerCheck is a line of `nigh doctor`, false where there is no radio. What keeps a radio from it is the check brcm.
func ownerCheck(cfg Config) (doctor.Check, bool) {
	cards, err := filepath.Glob("/sys/class/net/*/phy80211")
	if err != nil || len(cards) == 0 {
		return doctor.Check{}, false
	}
	n, why := cfg.owner(filepath.Base(filepath.Dir(cards[0]))).intent()
	return doctor.Check{ID: "owner", State: doctor.OK, Cause: fmt.Sprintf("The GO intent is %d: %s.", n, why)}, true
}
