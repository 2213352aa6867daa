package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// Mask hides what a bug report must not tell: secrets are struck out, and what identifies a person, a device or a place gets a
// pseudonym that stays the same within one Mask, so that lines about the same thing can still be told to belong together. Make it
// with [NewMask]. It is for one goroutine.
type Mask struct {
	known     []knownName
	pseudonym map[string]string // by kind and value in lower case
	count     map[string]int    // by kind
}

type knownName struct {
	kind, value string
	find        *regexp.Regexp
}

// hidden stands for what is struck out.
const hidden = "***"

// maxKnown bounds the names that are looked for in every text.
const maxKnown = 2000

// NewMask returns a Mask that knows no names.
func NewMask() *Mask {
	return &Mask{pseudonym: map[string]string{}, count: map[string]int{}}
}

// Hide has a name replaced wherever it stands, whatever its case. kind is the word of its pseudonyms: "device", "ssid", "user",
// "host" or "id". Names are found also where they are escaped for mDNS or for a log.
func (m *Mask) Hide(kind, value string) {
	if value = strings.TrimSpace(strings.ToValidUTF8(value, "?")); value == "" || len(m.known) >= maxKnown {
		return
	}
	for _, v := range []string{value, strings.ReplaceAll(value, " ", `\032`), strings.ReplaceAll(value, " ", `\ `), strings.ReplaceAll(value, " ", "-"), strings.ReplaceAll(value, " ", "_")} {
		if !slices.ContainsFunc(m.known, func(k knownName) bool { return strings.EqualFold(k.value, v) }) {
			m.known = append(m.known, knownName{kind, v, regexp.MustCompile(`(?i)` + regexp.QuoteMeta(v))})
		}
		m.pseudonym[kind+" "+strings.ToLower(v)] = m.name(kind, value)
	}
	// The longest first, so that no part of one is left.
	sort.SliceStable(m.known, func(i, j int) bool {
		a, b := m.known[i], m.known[j]
		return cmp.Compare(len(b.value), len(a.value)) < 0
	})
}

// name gives the pseudonym of a value.
func (m *Mask) name(kind, value string) string {
	key := kind + " " + strings.ToLower(value)
	if p, ok := m.pseudonym[key]; ok {
		return p
	}
	m.count[kind]++
	p := fmt.Sprintf("%s%d", kind, m.count[kind])
	m.pseudonym[key] = p
	return p
}

var (
	labelled = regexp.MustCompile(`(?i)\b((?:wpa_?|sae_?)?(?:pass(?:phrase|word|wd)?|psk|pin|secret|private_key|key_data|setup_code|code|token))("?\s*(?:[:=]\s*|\s+is\s+)"?)([^\s",;]+)`)
	ssidIs   = regexp.MustCompile(`(?i)\b(b?ssid)("?\s*[:=]?\s*")([^"]+)"|\b(ssid)([:=]\s*)([^\s",;]+)`)
	direct   = regexp.MustCompile(`DIRECT-[^\s"',;)]+`)
	macs     = regexp.MustCompile(`(?i)\b[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\b`)
	macName  = regexp.MustCompile(`\b((?:en|wl|ww)x)([0-9a-f]{12})\b`)
	deviceID = regexp.MustCompile(`\b[A-Z2-7]{4}(?:-[A-Z2-7]{4})+\b|\b[A-Z2-7]{16,}\b`)
	pin      = regexp.MustCompile(`\b\d{8}\b|\b\d{3}[ -]\d{3}\b`)
	longHex  = regexp.MustCompile(`(?i)\b[0-9a-f]{24,}\b`)
	base64ed = regexp.MustCompile(`[A-Za-z0-9+/_-]{40,}={0,2}`)
	ip4      = regexp.MustCompile(`(?i)((?:\bversion|\bfirmware)[ =:]"?)?\b\d{1,3}(?:\.\d{1,3}){3}\b`)
	ip6      = regexp.MustCompile(`(?i)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,}(?:\.\d{1,3}){0,3}`)
	paths    = regexp.MustCompile(`(^|[\s"'=:(\[|,;])(~?/[^\s"'|,;)\]]*)`)
	homes    = regexp.MustCompile(`/home/[^/\s"',;)]+`)
)

// systemFolders hold no files of people.
var systemFolders = []string{
	"/etc", "/usr", "/proc", "/sys", "/run", "/dev", "/lib", "/bin", "/sbin", "/boot", "/var/lib/nigh", "/var/lib/dbus", "~/.local/state/nigh", "~/.config/nigh",
}

// Text masks running text: a sentence, a line of a log.
func (m *Mask) Text(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = homes.ReplaceAllString(s, "~")
	for _, k := range m.known {
		if k.kind == "home" {
			s = k.find.ReplaceAllString(s, "~")
		}
	}
	s = paths.ReplaceAllStringFunc(s, func(found string) string {
		parts := paths.FindStringSubmatch(found)
		return parts[1] + m.path(parts[2])
	})
	s = labelled.ReplaceAllString(s, "${1}${2}"+hidden)
	for _, k := range m.known {
		if k.kind != "home" {
			s = m.replaceKnown(s, k)
		}
	}
	s = ssidIs.ReplaceAllStringFunc(s, func(found string) string {
		p := ssidIs.FindStringSubmatch(found)
		if p[3] != "" {
			return p[1] + p[2] + m.once("ssid", p[3]) + `"`
		}
		return p[4] + p[5] + m.once("ssid", p[6])
	})
	s = direct.ReplaceAllStringFunc(s, func(found string) string { return m.once("ssid", found) })
	s = macName.ReplaceAllStringFunc(s, func(found string) string { return found[:3] + m.name("mac", found[3:]) })
	s = macs.ReplaceAllStringFunc(s, m.mac)
	s = deviceID.ReplaceAllStringFunc(s, func(found string) string { return m.name("id", found) })
	s = ip6.ReplaceAllStringFunc(s, m.address)
	s = ip4.ReplaceAllStringFunc(s, func(found string) string {
		p := ip4.FindStringSubmatch(found)
		if p[1] != "" {
			return found // a driver's version has four numbers, too
		}
		return m.address(found)
	})
	s = longHex.ReplaceAllStringFunc(s, func(found string) string { return m.name("hex", found) })
	s = base64ed.ReplaceAllStringFunc(s, func(found string) string { return m.name("data", found) })
	return pin.ReplaceAllString(s, hidden)
}

// once gives a pseudonym to what is not one already.
func (m *Mask) once(kind, value string) string {
	for _, p := range m.pseudonym {
		if value == p {
			return value
		}
	}
	return m.name(kind, value)
}

// replaceKnown leaves longer words alone that a short name happens to be part of.
func (m *Mask) replaceKnown(s string, k knownName) string {
	const short = 5
	p := m.name(k.kind, k.value)
	var b strings.Builder
	at := 0
	for _, found := range k.find.FindAllStringIndex(s, -1) {
		if len(k.value) < short && (found[0] > 0 && wordByte(s[found[0]-1]) || found[1] < len(s) && wordByte(s[found[1]])) {
			continue
		}
		b.WriteString(s[at:found[0]] + p)
		at = found[1]
	}
	return b.String() + s[at:]
}

func wordByte(c byte) bool {
	return c >= 0x80 || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// path keeps where a system file is, and of a file of a person only that there was one.
func (m *Mask) path(p string) string {
	if p == "/" || p == "~" || p == "~/" || p == "~/Downloads/nigh" {
		return p
	}
	for _, f := range systemFolders {
		if p == f || strings.HasPrefix(p, f+"/") || strings.HasPrefix(p, f+".") {
			return p // names in it are still looked for
		}
	}
	if strings.HasPrefix(p, "~") {
		return "~/" + hidden
	}
	return "/" + hidden
}

func (m *Mask) mac(found string) string {
	plain := strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(found))
	if plain == "000000000000" || plain == "ffffffffffff" {
		return found
	}
	return m.name("mac", plain)
}

// address keeps of an IP address what kind it is, and of a private one its network.
func (m *Mask) address(found string) string {
	a, err := netip.ParseAddr(found)
	switch {
	case err != nil:
		if strings.Count(found, ":") < 2 && strings.Count(found, ".") < 3 {
			return found
		}
		if strings.Count(found, ":") == 2 && len(found) <= 8 { // a time of day
			return found
		}
		return hidden
	case a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || found == "fe80::1" || found == "255.255.255.255" || strings.HasPrefix(found, "255.255"):
		return found
	case a.Is4():
		b := a.As4()
		switch {
		case !a.IsPrivate() && !a.IsLinkLocalUnicast():
			return m.name("ip", found)
		case b[3] == 0:
			return found // a network
		}
		return fmt.Sprintf("%d.%d.%d.%s", b[0], b[1], b[2], m.name("ip", found))
	case a.IsLinkLocalUnicast():
		return "fe80::" + m.name("ip", found)
	case a.IsPrivate():
		return "fd00::" + m.name("ip", found)
	}
	return "2000::" + m.name("ip", found)
}
