package control

// Trusted is one entry of the trust book.
type Trusted struct {
	ID    string `json:"id"`
	Short string `json:"short"`
	Name  string `json:"name"`
	Trust string `json:"trust"` // "trusted", "blocked"; "new" when it was removed
	Permissions
	// ByPolicy says that the device counts as blocked because the policy of the machine
	// says so, not the user.
	ByPolicy bool   `json:"by_policy,omitempty"`
	Added    string `json:"added,omitempty"` // RFC 3339
}

// Permissions are what a trusted device may do.
type Permissions struct {
	AutoAccept bool   `json:"auto_accept"`         // it sends without being asked for
	Folder     string `json:"folder,omitempty"`    // where its files go; "" = the inbox
	MaxSize    int64  `json:"max_size,omitempty"`  // most bytes of one offer, 0 = any
	Quota      int64  `json:"quota,omitempty"`     // most bytes that it may send in all, 0 = any
	Used       int64  `json:"used,omitempty"`      // bytes it has sent, which count for the quota
	RateUp     int64  `json:"rate_up,omitempty"`   // most bytes per second to it, 0 = any
	RateDown   int64  `json:"rate_down,omitempty"` // most bytes per second from it, 0 = any
	// Shares are the names of the shares it may see, of those that are for it; left out
	// when it may see all.
	Shares []string `json:"shares,omitzero"`
}

// TrustRequest changes the trust book. What it does not name stays as it is.
type TrustRequest struct {
	Action     string  `json:"action"` // "add", "remove", "block", "set"
	Device     string  `json:"device"` // full DeviceID for "add", else anything that names a device
	Name       string  `json:"name,omitempty"`
	AutoAccept *bool   `json:"auto_accept,omitempty"`
	Folder     *string `json:"folder,omitempty"`     // absolute; "" = the inbox
	MaxSize    *int64  `json:"max_size,omitempty"`   // bytes; 0 = any
	Quota      *int64  `json:"quota,omitempty"`      // bytes; 0 = any
	RateUp     *int64  `json:"rate_up,omitempty"`    // bytes per second; 0 = any
	RateDown   *int64  `json:"rate_down,omitempty"`  // likewise
	ResetUsed  bool    `json:"reset_used,omitempty"` // the quota is counted from nothing again
	// Shares are the only shares that the device may see; AllShares takes that back.
	Shares    *[]string `json:"shares,omitempty"`
	AllShares bool      `json:"all_shares,omitempty"`
}

// Permits reports whether the request changes what the device may do.
func (r *TrustRequest) Permits() bool {
	return r.AutoAccept != nil || r.Folder != nil || r.MaxSize != nil || r.Quota != nil || r.RateUp != nil || r.RateDown != nil ||
		r.ResetUsed || r.Shares != nil || r.AllShares
}

// TrustDocument is a whole trust book as text: what nigh trust export writes. It holds
// no secret, but whom the user trusts.
type TrustDocument struct {
	Text    string `json:"text"`
	Devices int    `json:"devices,omitempty"` // in it; of an export
}

// TrustImport counts what an import of a trust book did.
type TrustImport struct {
	Trusted int `json:"trusted"` // devices that are trusted now and were not known
	Blocked int `json:"blocked"` // devices that are blocked now and were not
	Kept    int `json:"kept"`    // devices that stay as they were here
	Refused int `json:"refused"` // devices that the policy of the machine does not let be trusted
}
