package link

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	dhcpPort = 67
	procMax  = 1 << 16 // processes looked at, and sockets
)

// udpSocket is somebody's socket at a port.
type udpSocket struct {
	device  int // index of the link that it is bound to, 0 = none
	uid     uint32
	inode   uint32
	program string // "" when this process may not know
}

// String names the program for people.
func (s udpSocket) String() string {
	if s.program != "" {
		return "The program " + s.program
	}
	return fmt.Sprintf("A program of user %d", s.uid)
}

// held lists the sockets at a UDP port but those of this process. It is empty where the kernel does not tell.
func held(port uint16) []udpSocket {
	own := map[uint32]bool{}
	for _, inode := range inodes("/proc/self/fd") {
		own[inode] = true
	}
	var out []udpSocket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := dump(func() ([]*netlink.Socket, error) { return netlink.SocketDiagUDP(family) })
		if err != nil {
			continue
		}
		for _, s := range list[:min(len(list), procMax)] {
			if s.ID.SourcePort == port && !own[s.INode] {
				out = append(out, udpSocket{int(s.ID.Interface), s.UID, s.INode, program(s.INode)})
			}
		}
	}
	return out
}

// program finds the process that has a socket, which only root may see of others.
func program(inode uint32) string {
	dir, err := os.Open("/proc")
	if err != nil {
		return ""
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(procMax)
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		for _, has := range inodes(filepath.Join("/proc", name, "fd")) {
			if has != inode {
				continue
			}
			comm, err := os.ReadFile(filepath.Join("/proc", name, "comm"))
			if err != nil {
				return ""
			}
			return fmt.Sprintf("%s (process %s)", plainWord(strings.TrimSpace(string(comm))), name)
		}
	}
	return ""
}

// plainWord leaves of a program's name, which the program chooses, what can be shown.
func plainWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// inodes lists the sockets among the open files in a folder such as /proc/self/fd.
func inodes(folder string) []uint32 {
	dir, err := os.Open(folder)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(procMax)
	var out []uint32
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(folder, name))
		if err != nil {
			continue
		}
		if inode, ok := socketInode(target); ok {
			out = append(out, inode)
		}
	}
	return out
}

// socketInode reads the target of a link in /proc/PID/fd, such as "socket:[4711]" (proc(5)).
func socketInode(target string) (uint32, bool) {
	number, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, false
	}
	number, ok = strings.CutSuffix(number, "]")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	return uint32(n), err == nil
}

// checkDHCP looks for a DHCP server that keeps ours from the links of groups: one bound to no link, or to that of a group.
func checkDHCP(links []Link) Finding {
	f := Finding{ID: "foreign-dhcp", State: stateOK, Cause: "No other program serves DHCP on the links of Wi-Fi Direct groups."}
	for _, s := range held(dhcpPort) {
		where := "on every link"
		if s.device != 0 {
			where = ""
			for _, l := range links {
				if l.Index == s.device && l.Kind == Direct {
					where = "on " + l.Name
				}
			}
		}
		if where == "" {
			continue
		}
		f.State, f.Cause = stateWarn, s.String()+" holds the DHCP port 67 "+where+": phones get no address from this device in a Wi-Fi Direct group."
		f.Fix = "Keep it off the groups; for dnsmasq: sudo nigh doctor --fix dnsmasq"
		break
	}
	return f
}
