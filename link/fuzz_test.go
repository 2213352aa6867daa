package link

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// FuzzMatters gives the kernel's messages to what decides whether they matter: whatever they are, no panic, and only messages
// that can change what we know.
func FuzzMatters(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWLINK), []byte{0, 0, 0, 0})
	f.Add(uint16(unix.RTM_NEWLINK), append(make([]byte, 16), 8, 0, 3, 0, 'e', 't', 'h', 0))
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		if matters(kind, data) && kind != unix.RTM_NEWADDR && kind != unix.RTM_DELADDR && (len(data) < unix.SizeofIfInfomsg || data[0] != unix.AF_UNSPEC) {
			t.Errorf("type %d of family %x matters", kind, data)
		}
	})
}

// FuzzAttributes walks netlink attributes: every value lies within the message, and the walk ends.
func FuzzAttributes(f *testing.F) {
	f.Add([]byte{8, 0, 3, 0, 1, 2, 3, 4, 5, 0, 5, 128, 1})
	f.Add([]byte{0, 0, 3, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		for _, value := range attributes(data) {
			total += unix.SizeofRtAttr + len(value)
		}
		if total > len(data) {
			t.Errorf("%d bytes of attributes in %d", total, len(data))
		}
	})
}

// FuzzInterface reads what nl80211 says of an interface.
func FuzzInterface(f *testing.F) {
	f.Add(append(make([]byte, nl.SizeofGenlmsg), 8, 0, nl80211AttrIfindex, 0, 7, 0, 0, 0, 8, 0, nl80211AttrIftype, 0, 9, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		if index, _, ok := parseInterface(data); ok && index <= 0 {
			t.Errorf("index %d", index)
		}
	})
}

// FuzzBook opens a book with any content: it is read or set aside, and what is read names no file outside the link's own
// settings.
func FuzzBook(f *testing.F) {
	f.Add(`[{"boot":"b","netns":1,"index":3,"ifname":"grp0","addresses":["fe80::1/64","192.168.49.1/24"],"settings":[{"family":"ipv6","key":"accept_ra","old":"1","new":"0"}]}]`)
	f.Add(`[{"index":3,"ifname":"..","settings":[{"family":"ipv4","key":"../x","old":"","new":""}]}]`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, content string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, bookName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBook(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.entries {
			for _, s := range e.Settings {
				path := sysctlPath(s.Family, e.Ifname, s.Key)
				rest, ok := strings.CutPrefix(path, "/proc/sys/net/"+s.Family+"/")
				if !ok || strings.Count(rest, "/") != 2 || strings.Contains(rest, "..") && !strings.Contains(e.Ifname+s.Key, "..") {
					t.Errorf("a setting is %q", path)
				}
			}
			for _, p := range e.Addresses {
				// Undoing makes requests of it; a zero prefix has no address.
				if !p.IsValid() {
					t.Errorf("an address is %v", p)
				}
			}
		}
		if b.SetAside() != "" && len(b.entries) > 0 {
			t.Error("a book that was set aside has entries")
		}
	})
}
