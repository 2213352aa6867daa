package discovery

import (
	"strings"
	"unicode/utf8"
)

const (
	labelMaxBytes = 63 // RFC 1035 2.3.4
	userMaxBytes  = 40 // of the user's label in an instance name; the rest is for the short ID
	txtMaxBytes   = 1024
	txtMaxPairs   = 32
)

// escapeLabel writes a label as miekg/dns prints it, which is the only form under which the zeroconf library finds its own
// name again when it is asked for it.
func escapeLabel(s string) string { return escape(s, " '@;()\"\\.") }

// escapeTXT writes a TXT string as miekg/dns reads it back.
func escapeTXT(s string) string { return escape(s, "\"\\") }

func escape(s, special string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case strings.IndexByte(special, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			b.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescape undoes both. A broken escape at the end is kept as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case i+3 < len(s) && digits(s[i+1:i+4]):
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
		default:
			b = append(b, s[i+1])
			i++
		}
	}
	return string(b)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// fold is the form under which names are compared: DNS ignores the case of ASCII letters only, and the printed form has no
// others.
func fold(name string) string { return strings.ToLower(name) }

// instanceOf takes the label out of a service instance name in printed form. It refuses names of other services, of more
// than one label, and what RFC 6763 4.1.1 forbids: control characters and bytes that are not UTF-8.
func instanceOf(name, service string) (label string, ok bool) {
	n := len(name) - len(service) - 1
	if n <= 0 || name[n] != '.' || !strings.EqualFold(name[n+1:], service) {
		return "", false
	}
	printed := name[:n]
	for i := 0; i < len(printed); i++ {
		switch printed[i] {
		case '\\':
			i++
		case '.':
			return "", false
		}
	}
	label = unescape(printed)
	if len(label) > labelMaxBytes || !utf8.ValidString(label) || strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", false
	}
	return label, true
}

// instanceLabel builds the label that we publish: unique by the short ID, whatever the user calls the device.
func instanceLabel(user, shortID string) string {
	user = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, user)
	for len(user) > userMaxBytes {
		_, size := utf8.DecodeLastRuneInString(user)
		user = user[:len(user)-size]
	}
	return strings.TrimSpace(user + " [" + shortID + "]")
}

// parseTXT reads the strings of a TXT record in printed form by RFC 6763 6.4: the first of equal keys counts, keys are
// compared without case (here: lower case), strings without a key are ignored. Values that are not UTF-8 are ignored too, and
// so is everything after the bounds.
func parseTXT(printed []string) map[string]string {
	out := map[string]string{}
	total := 0
	for _, s := range printed {
		s = unescape(s)
		if total += len(s) + 1; total > txtMaxBytes || len(out) == txtMaxPairs {
			break
		}
		key, value, _ := strings.Cut(s, "=")
		key = strings.ToLower(key)
		if _, twice := out[key]; twice || key == "" || !utf8.ValidString(value) || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
			continue
		}
		out[key] = value
	}
	return out
}
