package trust

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"nigh/agent/identity"
)

// Bounds of a device's permissions.
const (
	MaxShares    = 64  // names of shares in [Permissions.Shares]
	maxShareName = 255 // bytes
	maxFolder    = 4095
)

// ErrPermission is returned for permissions that make no sense; its text says why.
var ErrPermission = errors.New("trust: not a permission")

// Permissions are what a trusted device may do (design section 3). The zero value is
// that of a device that was just trusted: it has to ask, and has no bounds but those
// of the policy. They count only while the device is trusted.
type Permissions struct {
	// AutoAccept lets the device send without being asked for.
	AutoAccept bool `json:"auto_accept,omitempty"`
	// Folder is where its files go when nobody says otherwise: an absolute path, ""
	// for the inbox.
	Folder string `json:"folder,omitempty"`
	// MaxSize is the most bytes of one offer of it, 0 for no bound.
	MaxSize int64 `json:"max_size,omitempty"`
	// Quota is the most bytes that it may send in all, 0 for no bound. [Record.Used]
	// says what of them is used.
	Quota int64 `json:"quota,omitempty"`
	// RateUp and RateDown are the most bytes per second to and from the device, 0 for
	// no bound.
	RateUp   int64 `json:"rate_up,omitempty"`
	RateDown int64 `json:"rate_down,omitempty"`
	// Shares are the names of the shares that it may see, of those that are for it:
	// nil for all, an empty list for none.
	Shares []string `json:"shares,omitzero"`
}

// MaySee reports whether the device may see the share of that name, as far as its
// permissions go. fold makes one name of all that a file system may take for one.
func (p Permissions) MaySee(share string, fold func(string) string) bool {
	return p.Shares == nil || slices.ContainsFunc(p.Shares, func(s string) bool { return fold(s) == fold(share) })
}

func (p Permissions) check() error {
	for _, n := range []int64{p.MaxSize, p.Quota, p.RateUp, p.RateDown} {
		if n < 0 {
			return fmt.Errorf("%w: a size or rate below zero", ErrPermission)
		}
	}
	if p.Folder != "" && (!filepath.IsAbs(p.Folder) || len(p.Folder) > maxFolder) {
		return fmt.Errorf("%w: the folder is not an absolute path", ErrPermission)
	}
	if len(p.Shares) > MaxShares {
		return fmt.Errorf("%w: more than %d shares are named", ErrPermission, MaxShares)
	}
	for _, s := range p.Shares {
		if s == "" || len(s) > maxShareName || !utf8.ValidString(s) {
			return fmt.Errorf("%w: a share without a name that can be", ErrPermission)
		}
	}
	return nil
}

// equal reports whether two records say the same.
func (r Record) equal(o Record) bool {
	if (r.Shares == nil) != (o.Shares == nil) || !slices.Equal(r.Shares, o.Shares) {
		return false
	}
	p, q := r.Permissions, o.Permissions
	return r.ID == o.ID && r.Name == o.Name && r.Standing == o.Standing && r.Key == o.Key && r.Added.Equal(o.Added) && r.Used == o.Used &&
		p.AutoAccept == q.AutoAccept && p.Folder == q.Folder && p.MaxSize == q.MaxSize && p.Quota == q.Quota &&
		p.RateUp == q.RateUp && p.RateDown == q.RateDown
}

// SetPermissions changes what a trusted device may do: change gets what it may do now.
// It returns [ErrUnknown] for a device that is not trusted, and an error wrapping
// [ErrPermission] for what makes no sense.
func (b *Book) SetPermissions(id identity.DeviceID, change func(*Permissions)) error {
	return b.change(id, func(r Record, _ bool) (Record, error) {
		if r.Standing != Trusted {
			return r, ErrUnknown
		}
		r.Shares = slices.Clone(r.Shares)
		change(&r.Permissions)
		return r, r.check()
	})
}

// Use adds bytes to what a trusted device has used of its quota; what is below zero
// gives some back. It returns [ErrUnknown] for a device that is not trusted.
func (b *Book) Use(id identity.DeviceID, bytes int64) error {
	return b.change(id, func(r Record, _ bool) (Record, error) {
		if r.Standing != Trusted {
			return r, ErrUnknown
		}
		if bytes > math.MaxInt64-r.Used {
			bytes = math.MaxInt64 - r.Used
		}
		r.Used = max(0, r.Used+bytes)
		return r, nil
	})
}
