package wpa

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// rfkillEvent is the size of struct rfkill_event of linux/rfkill.h.
const rfkillEvent = 8

// phyOf returns the name of the radio that an interface belongs to, such as phy0; empty when sysfs does not show it to
// this network namespace.
func phyOf(ifname string) string {
	name, err := os.ReadFile(filepath.Join("/sys/class/net", filepath.Base(ifname), "phy80211/name"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// blocked reports whether rfkill switched a radio off, by software or by a switch. Its signals say nothing of it: Find and
// GroupAdd succeed and end at once.
func blocked(phy string) (soft, hard bool) {
	if phy == "" {
		return false, false
	}
	switches, _ := filepath.Glob("/sys/class/rfkill/rfkill*")
	for _, s := range switches {
		if readWord(s, "type") != "wlan" || readWord(s, "name") != phy {
			continue
		}
		soft = soft || readWord(s, "soft") == "1"
		hard = hard || readWord(s, "hard") == "1"
	}
	return soft, hard
}

func readWord(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b))
}

// rfkillWatch tells of every change of any switch until it is closed. Without the device, or the right to read it, it is
// nil: a group then ends without its reason, and commands fail by their deadlines.
type rfkillWatch struct{ file *os.File }

func watchRfkill() *rfkillWatch {
	f, err := os.OpenFile("/dev/rfkill", os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return &rfkillWatch{f}
}

// run calls changed after every event until close is called.
func (w *rfkillWatch) run(changed func()) {
	event := make([]byte, 4*rfkillEvent) // newer kernels have longer events, one a read
	for {
		if _, err := w.file.Read(event); err != nil {
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			return
		}
		changed()
	}
}

func (w *rfkillWatch) close() { _ = w.file.Close() }

// switched follows the radio's switch.
func (m *machine) switched() {
	if m.stopping || m.state != Ready && m.state != Off {
		return
	}
	soft, hard := blocked(m.phy)
	switch off := soft || hard; {
	case off && m.state == Ready:
		m.closeAll(ErrRadioOff)
		for _, g := range m.groups {
			// GroupFinished follows; but nothing is heard of a group whose radio is gone for good.
			g.state, g.reason = groupEnding, ReasonRadioOff
			g.timer.stop()
			g.timer = m.after(endLimit, func() { m.groupGone(g, g.reason) })
		}
		m.disc.halt()
		m.setState(Off, ErrRadioOff)
	case !off && m.state == Off:
		m.setState(Ready, nil)
		m.resync()
		m.resume()
	}
}
