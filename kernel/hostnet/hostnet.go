// Package hostnet leads protected traffic to the TUN and keeps it from going around it: routes in a table of our own, the rule that looks that
// table up, an nft table against clear packets with a protected source, and the TUN's own settings.
//
// All of it belongs to the network namespace in which New was called, so that daemons in several namespaces of one machine do not meet.
package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
)

// Defaults of Settings. The mark spells "IKE".
const (
	DefaultMark       = 0x494b45
	DefaultTable      = 4500
	DefaultPreference = 4500
	DefaultNFTable    = "ikegod"
	DefaultTUNMTU     = 1500
)

// Settings of a Net. Zero values stand for the defaults above.
type Settings struct {
	// Mark is SO_MARK of our sockets: what carries it is never led to the TUN.
	Mark uint32
	// Table is the first of our routing tables; it and the 257 after it are ours alone.
	Table int
	// Preference of the first of our rules; it and the four after it are ours alone.
	Preference int
	// NFTable is the name of our nft table (family inet).
	NFTable string
	// Opened is the bit of the mark that packets from the TUN get, for a policy of the kernel's IPsec that lets them pass, until they are forwarded; and what the kernel's
	// ESP has decrypted passes the guard. Zero: the kernel's IPsec carries nothing here.
	Opened kernel.Mark
	// RunDir is the daemon's run directory. A small file in it holds these numbers, so that the next daemon finds what a crash left behind, whatever numbers or datapath that
	// one has. Empty: nothing is kept.
	RunDir string
	// TUNMTU is the MTU of the TUN itself; each route has its own, smaller one.
	TUNMTU int
}

func (s *Settings) fill() {
	if s.Mark == 0 {
		s.Mark = DefaultMark
	}
	if s.Table == 0 {
		s.Table = DefaultTable
	}
	if s.Preference == 0 {
		s.Preference = DefaultPreference
	}
	if s.NFTable == "" {
		s.NFTable = DefaultNFTable
	}
	if s.TUNMTU == 0 {
		s.TUNMTU = DefaultTUNMTU
	}
}

// check refuses numbers that are not ours to use.
func (s Settings) check() error {
	if first, last := s.Table, s.Table+numTables-1; first < 1 || first <= unix.RT_TABLE_LOCAL && last >= unix.RT_TABLE_DEFAULT || last > 1<<31-1 {
		return fmt.Errorf("table=%d: tables %d to %d would be ours, and 253 to 255 are the system's; choose 256 or more", s.Table, first, last)
	}
	if s.Preference < 1 || s.Preference+prefLast > 32765 {
		return fmt.Errorf("preference=%d: rules %d to %d would be ours, and must stand between 1 and 32765, before those of the main table",
			s.Preference, s.Preference, s.Preference+prefLast)
	}
	return nil
}

// Net is what was changed in one network namespace. Safe for concurrent use.
type Net struct {
	set    Settings
	handle *netlink.Handle
	tun    string
	index  int
	ours   bool      // nobody else uses our tables
	noted  bool      // our numbers are in the run directory
	beside *Settings // of the daemon that sweeps, if this is for what an earlier one with other numbers has left
	notes  []string

	mu       sync.Mutex // guards all below
	policies map[kernel.PolicyID]*routed
	passing  map[kernel.PolicyID]bool // those that let pass
	prefixes map[tableKey][]*routed   // in the order in which they came
	rules    map[ruleKey]int          // with the number of policies that want them
	locals   map[netip.Prefix]int     // the tables of local prefixes
	ports    map[int]portTable        // what the tables from tablePorts on are for
	added    map[netip.Addr]int       // source addresses that we put on the TUN, likewise
	guard    *guard
	found    bool // what an earlier daemon left is still there, until Sweep
	// Of that, the tables for single protocols or ports, and the rules that lead there.
	leftTables map[int]bool
	leftRules  map[ruleID]leftTable
	others     []used // numbers under which an earlier daemon may have left something too
	swept      bool   // Sweep was called: the policies of this daemon are in place
}

// Prepare returns a function that sets SO_MARK on a socket before it connects or listens; cmd/ikegod hands it to the transport. mark zero
// stands for DefaultMark.
func Prepare(mark uint32) func(syscall.RawConn) error {
	if mark == 0 {
		mark = DefaultMark
	}
	return func(c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		}); err != nil {
			return err
		}
		if failed != nil {
			return fmt.Errorf("SO_MARK %#x: %w; CAP_NET_ADMIN is needed", mark, failed)
		}
		return nil
	}
}

// New prepares the namespace of the calling thread for the TUN of that name: it is set up, and the rules and the nft table are put in place. What an earlier daemon
// with the same settings left behind goes on holding traffic back, until Sweep. Where nft is missing, Notes says what that means.
func New(tun string, set Settings) (*Net, error) {
	set.fill()
	if err := set.check(); err != nil {
		return nil, err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	n := &Net{
		set: set, handle: h, tun: tun,
		policies: map[kernel.PolicyID]*routed{}, passing: map[kernel.PolicyID]bool{}, prefixes: map[tableKey][]*routed{}, rules: map[ruleKey]int{}, locals: map[netip.Prefix]int{}, added: map[netip.Addr]int{},
		ports: map[int]portTable{}, leftTables: map[int]bool{}, leftRules: map[ruleID]leftTable{},
	}
	if err := n.setUp(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Net) setUp() error {
	link, err := n.handle.LinkByName(n.tun)
	if err != nil {
		return fmt.Errorf("interface %s: %w", n.tun, err)
	}
	n.index = link.Attrs().Index
	if err := errors.Join(n.recall(), n.adopt()); err != nil {
		return err
	}
	n.ours = true
	if err := n.note(); err != nil {
		return err
	}
	n.sysctls()
	if err := n.handle.LinkSetMTU(link, n.set.TUNMTU); err != nil {
		return fmt.Errorf("interface %s: MTU %d: %w", n.tun, n.set.TUNMTU, err)
	}
	if err := n.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("interface %s: up: %w", n.tun, err)
	}
	if err := n.addRules(); err != nil {
		return err
	}
	if n.guard, err = newGuard(n.set, n.tun); err != nil {
		n.notes = append(n.notes, fmt.Sprintf("nft is not usable (%v): clear packets from the network that claim a protected source are not dropped", err))
		return nil
	}
	n.found = n.found || n.guard.found
	return nil
}

// Notes says what this machine lacks, one sentence each.
func (n *Net) Notes() []string { return n.notes }

// ClearDropped is the number of clear packets from the network that were dropped because a policy protects what they claim to be.
func (n *Net) ClearDropped() (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.guard == nil {
		return 0, nil
	}
	return n.guard.dropped()
}

// PathMTU is the MTU towards remote as the kernel knows it: that of the route, lowered by what path MTU discovery found. Zero: no route.
func (n *Net) PathMTU(local, remote netip.Addr) int {
	o := &netlink.RouteGetOptions{Mark: n.set.Mark}
	if local.IsValid() {
		o.SrcAddr = local.AsSlice()
	}
	routes, err := n.handle.RouteGetWithOptions(remote.AsSlice(), o)
	if err != nil || len(routes) == 0 {
		return 0
	}
	if routes[0].MTU > 0 {
		return routes[0].MTU
	}
	link, err := n.handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return 0
	}
	return link.Attrs().MTU
}

// Close takes everything away. What belongs to the TUN itself goes with it. A daemon that ends before Sweep has never taken over: then what holds traffic back
// stays as after a kill, for the next one.
func (n *Net) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	if n.found && !n.swept {
		if n.guard != nil {
			errs = append(errs, n.guard.conn.CloseLasting())
		}
		n.guard, n.ours, n.noted = nil, false, false
	}
	if n.guard != nil {
		errs = append(errs, n.guard.close())
		n.guard = nil
	}
	if n.ours {
		errs = append(errs, n.clear())
		n.ours = false
	}
	if errors.Join(errs...) == nil { // else the next one tries again
		errs = append(errs, n.unnote())
	}
	n.noted = false
	n.handle.Close()
	return errors.Join(errs...)
}
