package wpa

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nigh/wpa/dbusapi"
	"nigh/wpa/nmapi"
)

// policyFolders are where the system bus looks for policies of packages and of the administrator.
var policyFolders = []string{"/etc/dbus-1/system.d", "/usr/share/dbus-1/system.d"}

// maxPolicyBytes bounds a policy file; real ones have a page or two.
const maxPolicyBytes = 256 << 10

// survey looks at what the choice of an engine depends on.
func survey(ctx context.Context, cfg Config) surroundings {
	s := surroundings{killed: cfg.Killed, root: os.Geteuid() == 0, policy: Policy()}
	s.privately = privately(cfg)
	taken := map[string]bool{} // interfaces that some program uses
	if c, err := dbusapi.Dial(ctx, cfg.Bus); err != nil {
		s.busErr = err
	} else {
		s.supplicant(ctx, c, taken)
		_ = c.Close() // it was only asked
	}
	if n, err := nmapi.Dial(ctx, cfg.Bus); err == nil {
		s.networkManager(ctx, n, cfg, taken)
		_ = n.Close() // likewise
	}
	s.free = freeAdapters(taken)
	return s
}

// supplicant asks the system's wpa_supplicant for its interfaces. One that does not run yet has none.
func (s *surroundings) supplicant(ctx context.Context, c *dbusapi.Client, taken map[string]bool) {
	if present, err := c.Present(ctx); err != nil || !present {
		s.denied = errors.Is(err, dbusapi.ErrDenied)
		return
	}
	paths, err := c.Interfaces(ctx)
	s.denied = errors.Is(err, dbusapi.ErrDenied)
	for _, p := range paths {
		if i, err := c.Interface(ctx, p); err == nil {
			taken[i.Ifname] = true
			if !i.IsGroup() {
				s.owns = append(s.owns, i.Ifname)
			}
		}
	}
}

func (s *surroundings) networkManager(ctx context.Context, n *nmapi.Client, cfg Config, taken map[string]bool) {
	var err error
	if s.nm, err = n.Running(ctx); err != nil || !s.nm {
		return
	}
	radios, err := n.Radios(ctx)
	if err != nil {
		return // what cannot be asked manages nothing that we know of; a group that it removes tells
	}
	s.asked = true
	for _, r := range radios {
		if r.Managed && !r.P2P && (cfg.Ifname == "" || r.Ifname == cfg.Ifname) {
			s.managed = append(s.managed, r.Ifname)
		}
		if r.Managed {
			taken[r.Ifname] = true
		}
	}
	if i := p2pHolder(s.managed); i > 0 {
		s.managed[0], s.managed[i] = s.managed[i], s.managed[0] // the one that matters
	}
	s.permitted, _ = n.MayConnect(ctx) // when it does not say, it does not
}

// freeAdapters lists the interfaces of radios that can do P2P, that are only stations, are not connected, and that no
// program that we know of uses. A radio that has a P2P device already is somebody's.
func freeAdapters(taken map[string]bool) []string {
	radios, err := wiphys()
	if err != nil {
		return nil
	}
	list, err := wdevs()
	if err != nil {
		return nil
	}
	var free []string
	for _, r := range radios {
		name, used := "", !r.can()
		for _, w := range list {
			if w.Wiphy != r.ID {
				continue
			}
			if w.Type != unix.NL80211_IFTYPE_STATION || taken[w.Ifname] || busy(w.Ifname) {
				used = true
				break
			}
			if name == "" {
				name = w.Ifname
			}
		}
		if soft, hard := blocked(r.Name); !used && name != "" && !soft && !hard {
			free = append(free, name)
		}
	}
	slices.Sort(free)
	return free
}

// busy reports whether an interface is connected, or has the control socket of a wpa_supplicant that is on no bus.
func busy(ifname string) bool {
	i, err := net.InterfaceByName(ifname)
	if err != nil || i.Flags&net.FlagRunning != 0 {
		return true
	}
	_, err = os.Stat(filepath.Join("/run/wpa_supplicant", ifname))
	return err == nil
}

// privately says what is missing here for a wpa_supplicant of our own.
func privately(cfg Config) error {
	if cfg.Folder == "" {
		return errors.New("no folder was given for its bus")
	}
	for _, name := range []string{"dbus-daemon", "wpa_supplicant"} {
		if _, err := program(name); err != nil {
			return fmt.Errorf("the program %s is not installed", name)
		}
	}
	if !may(unix.CAP_NET_ADMIN) || !may(unix.CAP_NET_RAW) {
		return errors.New("the agent lacks the rights CAP_NET_ADMIN and CAP_NET_RAW, which the service nigh@USER has")
	}
	return nil
}

// program finds a program, also where users' PATH does not lead.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	return path, err
}

// may reports whether this process has a capability and can pass it on to a program that it starts.
func may(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	word, bit := capability/32, uint32(1)<<(capability%32)
	if data[word].Effective&bit == 0 {
		return false
	}
	if os.Geteuid() == 0 {
		return true
	}
	ambient, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(capability), 0, 0)
	return err == nil && ambient == 1
}

// Policy returns the file of the D-Bus policy that keeps NetworkManager from removing groups; empty when there is none.
func Policy() string { return findPolicy(policyFolders) }

// findPolicy returns the file in one of the folders that keeps GroupStarted from root's programs, of which NetworkManager
// is one; empty when there is none. The bus reads a file in these folders as soon as it is there.
func findPolicy(folders []string) string {
	for _, folder := range folders {
		files, _ := filepath.Glob(filepath.Join(folder, "*.conf"))
		for _, path := range files {
			if keepsGroupStarted(path) {
				return path
			}
		}
	}
	return ""
}

func keepsGroupStarted(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxPolicyBytes {
		return false
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "GroupStarted") {
		return false
	}
	of := func(e xml.StartElement, name string) string {
		for _, a := range e.Attr {
			if a.Name.Local == name {
				return a.Value
			}
		}
		return ""
	}
	keeps, root, depth := false, false, 0
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		token, err := d.Token()
		if err != nil {
			return keeps && errors.Is(err, io.EOF) // a file with mistakes is no policy
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			switch {
			case depth == 2:
				root = e.Name.Local == "policy" && of(e, "user") == "root"
			case depth == 3 && root && e.Name.Local == "deny":
				keeps = keeps || of(e, "receive_member") == "GroupStarted" && of(e, "receive_sender") == dbusapi.Name
			}
		case xml.EndElement:
			depth--
		}
	}
}
