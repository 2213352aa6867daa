package wpa

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nigh/wpa/dbusapi"
)

// Finding is the result of one check of Diagnose.
type Finding struct {
	ID    string // stable word, such as "rfkill"
	State FindingState
	Cause string // what is so, one sentence
	Fix   string // one thing to do; empty when State is OK
}

// FindingState is how bad a finding is.
type FindingState string

// The states of a finding.
const (
	OK   FindingState = "ok"
	Warn FindingState = "warn" // works, but less
	Fail FindingState = "fail" // Wi-Fi Direct cannot work
)

// signalWait is how long the end of a search may take to be told.
const signalWait = 3 * time.Second

// Diagnose checks, from the radio upwards, what Wi-Fi Direct needs. It changes nothing that lasts: to see whether signals
// arrive, it searches for a moment. It blocks for up to about ten seconds. A check that makes the later ones pointless is
// the last.
func Diagnose(ctx context.Context, cfg Config) []Finding {
	d := &diagnosis{cfg: cfg}
	d.radio()
	d.bus(ctx)
	return d.findings
}

type diagnosis struct {
	cfg      Config
	findings []Finding
	noRadio  bool // the kernel shows none
	off      bool // it is switched off, so that it does not search
}

func (d *diagnosis) add(id string, s FindingState, cause, fix string) {
	d.findings = append(d.findings, Finding{id, s, cause, fix})
}

// radio checks what the kernel has.
func (d *diagnosis) radio() {
	radios, err := wiphys()
	if err != nil || len(radios) == 0 {
		d.noRadio = true
		d.add("wifi-hw", Fail, "No Wi-Fi radio is seen by the kernel.", "Plug in a Wi-Fi adapter, MediaTek mt76 ones work well; LAN and cable still work.")
		return
	}
	list, _ := wdevs()
	w := radios[0]
	for _, dev := range list {
		if dev.Ifname == d.cfg.Ifname && d.cfg.Ifname != "" {
			if i := slices.IndexFunc(radios, func(r wiphy) bool { return r.ID == dev.Wiphy }); i >= 0 {
				w = radios[i]
			}
		}
	}
	names := make([]string, len(radios))
	for i, r := range radios {
		names[i] = r.Name
	}
	d.add("wifi-hw", OK, "Radios: "+strings.Join(names, ", ")+".", "")

	switch soft, hard := blocked(w.Name); {
	case hard:
		d.off = true
		d.add("rfkill", Fail, w.Name+" is switched off by a switch or key.", "Turn the Wi-Fi switch of the machine on.")
	case soft:
		d.off = true
		d.add("rfkill", Fail, w.Name+" is switched off by software.", "sudo rfkill unblock wifi, or: sudo nigh doctor --fix rfkill; on a Raspberry Pi set the country in raspi-config.")
	default:
		d.add("rfkill", OK, w.Name+" is switched on.", "")
	}
	switch {
	case !w.can():
		d.add("p2p-modes", Fail, w.Name+" cannot be a Wi-Fi Direct client and group owner.", "Use another Wi-Fi adapter, or LAN.")
	case !slices.Contains(w.Types, unix.NL80211_IFTYPE_P2P_DEVICE):
		d.add("p2p-modes", OK, w.Name+" can be a Wi-Fi Direct client and group owner.", "")
		d.add("p2p-device", Warn, w.Name+" has no P2P device of its own: phones may not list this machine.", "Start the search on the other device first.")
	default:
		d.add("p2p-modes", OK, w.Name+" can be a Wi-Fi Direct client and group owner.", "")
		d.add("p2p-device", OK, w.Name+" has a P2P device of its own.", "")
	}
	if w.can() {
		d.room(w, w.present(list), country(w.ID))
	}
}

// bus checks the supplicant and our right to use it.
func (d *diagnosis) bus(ctx context.Context) {
	c, err := dbusapi.Dial(ctx, d.cfg.Bus)
	if err != nil {
		if !errors.Is(err, dbusapi.ErrDenied) {
			err = fmt.Errorf("%w: %w", ErrNoBus, err)
		}
		d.fail("bus", err)
		return
	}
	defer func() { _ = c.Close() }() // it was only asked
	d.add("bus", OK, "The D-Bus bus answers.", "")

	iwd, _ := c.HasOwner(ctx, nameIWD)
	present, err := c.Present(ctx)
	switch {
	case err != nil:
		d.fail("supplicant", err)
		return
	case !present && iwd:
		d.fail("supplicant", ErrIWD)
		return
	case !present:
		d.fail("supplicant", ErrNoSupplicant)
		return
	case iwd:
		d.add("supplicant", Warn, "wpa_supplicant and iwd both run.", "Stop one of them: `sudo systemctl disable --now iwd`.")
	default:
		d.add("supplicant", OK, "wpa_supplicant runs.", "")
	}

	caps, err := c.Capabilities(ctx)
	if err != nil {
		d.fail("dbus-policy", err)
		return
	}
	if !slices.Contains(caps, "p2p") {
		d.add("supplicant-p2p", Fail, "wpa_supplicant was built without Wi-Fi Direct.", "Install the wpasupplicant package of the distribution.")
		return
	}
	d.add("supplicant-p2p", OK, "wpa_supplicant was built with Wi-Fi Direct.", "")

	iface, ok := d.owner(ctx, c)
	if !ok {
		return
	}
	if !d.off {
		d.signals(ctx, c, iface.Path)
	}
	d.networkManager(ctx)
}

func (d *diagnosis) fail(id string, err error) {
	err = callErr(err)
	cause := err.Error()
	if !strings.HasPrefix(cause, "wpa_") { // a program's name
		cause = strings.ToUpper(cause[:1]) + cause[1:]
	}
	d.add(id, Fail, cause+".", Hint(err))
}

// owner looks for the interface without creating one.
func (d *diagnosis) owner(ctx context.Context, c *dbusapi.Client) (dbusapi.Interface, bool) {
	paths, err := c.Interfaces(ctx)
	if err != nil {
		d.fail("dbus-policy", err)
		return dbusapi.Interface{}, false
	}
	sort.Slice(paths, func(i, j int) bool {
		a, b := paths[i], paths[j]
		return number(a) < number(b)
	})
	cannot := ""
	for _, p := range paths {
		i, err := c.Interface(ctx, p)
		if err != nil || i.IsGroup() || d.cfg.Ifname != "" && i.Ifname != d.cfg.Ifname {
			continue
		}
		if _, err := c.Config(ctx, p); !i.P2P || err != nil {
			cannot = i.Ifname
			continue
		}
		d.add("supplicant-iface", OK, "wpa_supplicant has "+i.Ifname+" with Wi-Fi Direct.", "")
		return i, true
	}
	if cannot != "" {
		d.add("supplicant-iface", Fail, "Wi-Fi Direct does not work on "+cannot+".", Hint(ErrNoP2P))
		return dbusapi.Interface{}, false
	}
	cards, _ := filepath.Glob("/sys/class/net/*/phy80211")
	if has, _ := c.HasOwner(ctx, nameNM); !has && len(cards) > 0 {
		name := filepath.Base(filepath.Dir(cards[0]))
		if _, err := os.Stat("/run/wpa_supplicant/" + name); err != nil {
			d.add("supplicant-iface", OK, "wpa_supplicant has no interface yet; nigh gives it "+name+".", "")
			return dbusapi.Interface{}, false
		}
	}
	if !d.noRadio { // else that was said
		d.fail("supplicant-iface", ErrNoInterface)
	}
	return dbusapi.Interface{}, false
}

// signals checks what D-Bus does not say: a policy that keeps signals from us makes every wait end in vain. A search that
// is going on is left alone.
func (d *diagnosis) signals(ctx context.Context, c *dbusapi.Client, owner dbusapi.Path) {
	err := c.Find(ctx, owner, "social", 1)
	if err == nil {
		err = c.StopFind(ctx, owner)
	}
	switch {
	case errors.Is(err, dbusapi.ErrDenied):
		d.fail("dbus-policy", err)
		return
	case err != nil:
		d.add("dbus-policy", Warn, "wpa_supplicant does not search now: "+err.Error()+".", "Try again when no connection is being made.")
		return
	}
	timer := time.NewTimer(signalWait)
	defer timer.Stop()
	for {
		if slices.ContainsFunc(c.Next(), func(s dbusapi.Signal) bool { _, ok := s.(dbusapi.FindStopped); return ok }) {
			d.add("dbus-policy", OK, "Calls and signals pass the D-Bus policy.", "")
			return
		}
		select {
		case <-c.Ready():
		case <-timer.C:
			d.add("dbus-policy", Fail, "The D-Bus policy lets no signal of wpa_supplicant through.", Hint(ErrDenied))
			return
		case <-ctx.Done():
			return
		}
	}
}

// networkManager checks for the program that removes other programs' groups.
func (d *diagnosis) networkManager(ctx context.Context) {
	const id = "networkmanager"
	s := survey(ctx, d.cfg)
	switch {
	case !s.nm:
		d.add(id, OK, "NetworkManager does not use this bus.", "")
	case len(s.managed) == 0:
		d.add(id, OK, "NetworkManager runs and manages no Wi-Fi here.", "")
	case s.policy != "" && dbusBroker(brokerLinks):
		d.add(id, Warn, "NetworkManager runs, and whether "+s.policy+" keeps it from removing groups is not known with dbus-broker.",
			"Make a group with `nigh group create`; if it is removed, use dbus-daemon or a second Wi-Fi adapter.")
	case s.policy != "":
		d.add(id, OK, "NetworkManager runs, and "+s.policy+" keeps it from removing groups.", "")
	default:
		d.add(id, Warn, "NetworkManager manages "+s.managed[0]+" and removes every group that it did not make.", Hint(ErrKilledByNetworkManager))
	}
}

// brokerLinks are where systemd looks up which program is the bus.
var brokerLinks = []string{"/etc/systemd/system/dbus.service", "/usr/lib/systemd/system/dbus.service"}

// dbusBroker reports whether the bus is dbus-broker, with which our policy was never tried: its unit takes the name
// dbus.service by a link.
func dbusBroker(links []string) bool {
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			return strings.HasPrefix(filepath.Base(target), "dbus-broker")
		}
	}
	return false
}
