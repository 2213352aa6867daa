package cli

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// permissionFlags are the flags of what a trusted device may do.
type permissionFlags struct {
	auto, reset                              bool
	folder                                   string
	maxSize, quota, rateUp, rateDown, shares string
}

// The words of flags that take back a bound.
const (
	wordAll   = "all"
	wordNone  = "none"
	wordInbox = "inbox"
)

// addAuto gives cmd the flag of a device's first permission.
func (p *permissionFlags) addAuto(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.auto, "auto-accept", false, "take its offers without asking; --auto-accept=false asks again")
}

// add gives cmd the flags of all permissions.
func (p *permissionFlags) add(cmd *cobra.Command) {
	p.addAuto(cmd)
	f := cmd.Flags()
	f.StringVar(&p.folder, "folder", "", "`DIR` for what it sends, or inbox")
	f.StringVar(&p.maxSize, "max-size", "", "refuse an offer of more than `SIZE`, or none")
	f.StringVar(&p.quota, "quota", "", "refuse what is more than `SIZE` in all, or none")
	f.BoolVar(&p.reset, "reset-quota", false, "count its quota from nothing again")
	f.StringVar(&p.rateUp, "rate-up", "", "send it at most `RATE` (bytes per second), or none")
	f.StringVar(&p.rateDown, "rate-down", "", "receive from it at most `RATE` (bytes per second), or none")
	f.StringVar(&p.shares, "shares", "", "it may see only these `SHARES` (with commas between), all or none")
	complete(cmd, "shares", wordAll, wordNone)
}

// fill puts what was given into r.
func (p *permissionFlags) fill(cmd *cobra.Command, r *control.TrustRequest) error {
	given := cmd.Flags().Changed
	if given("auto-accept") {
		r.AutoAccept = &p.auto
	}
	r.ResetUsed = p.reset
	if given("folder") {
		folder := ""
		if p.folder != wordInbox && p.folder != "" {
			var err error
			if folder, err = filepath.Abs(p.folder); err != nil {
				return err
			}
		}
		r.Folder = &folder
	}
	for _, f := range []struct {
		name, text string
		to         **int64
	}{{"max-size", p.maxSize, &r.MaxSize}, {"quota", p.quota, &r.Quota}, {"rate-up", p.rateUp, &r.RateUp}, {"rate-down", p.rateDown, &r.RateDown}} {
		if !given(f.name) {
			continue
		}
		n, err := control.ParseSize(f.text)
		if err != nil {
			return usage(cmd, "--%s: %s", f.name, err)
		}
		*f.to = &n
	}
	if given("shares") {
		switch p.shares {
		case wordAll:
			r.AllShares = true
		case wordNone, "":
			r.Shares = &[]string{}
		default:
			names := strings.Split(p.shares, ",")
			r.Shares = &names
		}
	}
	return nil
}

// limits says what bounds a device has, "" for none.
func limits(p control.Permissions) string {
	var list []string
	if p.Folder != "" {
		list = append(list, "into "+p.Folder)
	}
	if p.MaxSize > 0 {
		list = append(list, size(p.MaxSize)+" an offer")
	}
	if p.Quota > 0 {
		list = append(list, size(p.Used)+" of "+size(p.Quota))
	}
	if p.RateUp > 0 {
		list = append(list, size(p.RateUp)+"/s to it")
	}
	if p.RateDown > 0 {
		list = append(list, size(p.RateDown)+"/s from it")
	}
	switch {
	case p.Shares == nil:
	case len(p.Shares) == 0:
		list = append(list, "no shares")
	default:
		list = append(list, "shares: "+strings.Join(p.Shares, ", "))
	}
	return strings.Join(list, ", ")
}
