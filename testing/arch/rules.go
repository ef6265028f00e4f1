// Package arch holds the rules of this house, who may import whom and what a file looks like, and tests the tree against them. Each rule has
// its reason, which a failing test prints.
package arch

// module is the prefix of our own import paths.
const module = "github.com/ikegod/ikegod/"

// A pattern names packages by their path in the module: "ike/machine" is that package, "pkg/*" every package below pkg, "*" everything except
// testing, which nothing but testing imports.

// layer says what the packages of one pattern may import of ours. The first layer that fits a package counts. Packages of one "x/*"
// layer may import each other.
type layer struct {
	pkgs   string
	may    []string
	reason string
}

// layers is DESIGN's "who may import whom", docs/ARCHITECTURE.md and decision 0001.
var layers = []layer{
	{"cmd/ikegod", []string{"*"}, "the daemon wires all parts together"},
	{"cmd/ikectl", []string{"pkg/ctl", "conf"}, "the control program talks to the daemon over its socket, and reads configurations for check"},
	{"conf", []string{"ike/policy", "ike/auth", "pkg/*"}, "conf compiles text into policy and secrets; it starts and opens nothing"},
	{"ike/policy", []string{"pkg/*"}, "policy is values: what holds it must not depend on who uses it"},
	{"ike/event", []string{"pkg/*"}, "events are values that everybody above may read"},
	{"ike/machine", []string{"ike/policy", "ike/event", "pkg/*"}, "one IKE SA is a pure state machine: effects go out as values, so that a seed reproduces a run"},
	{"ike/auth", []string{"ike/machine", "ike/policy", "pkg/*"}, "auth performs the machine's jobs and alone holds secrets"},
	{"ike/engine", []string{"ike/*", "pkg/*", "transport", "transport/ladder", "kernel"}, "the engine sees the two ports as interfaces and never what is below them (decision 0001)"},
	{"transport", []string{"pkg/path"}, "the port to sockets is interfaces and values"},
	{"transport/*", []string{"transport", "pkg/path"}, "carriers move octets; they know nothing of IKE, the kernel or the configuration"},
	{"kernel", []string{"pkg/esp", "pkg/suite", "pkg/ts", "pkg/path"}, "the port to datapaths is interfaces and values"},
	{"kernel/*", []string{"kernel", "pkg/iana", "pkg/esp", "pkg/suite", "pkg/ts", "pkg/path"}, "a datapath is told SAs and policies; it knows nothing of IKE, sockets of the transport or the configuration"},
	{"pkg/iana", nil, "numbers need nothing"},
	{"pkg/path", nil, "everybody may import a path, so it imports nobody (decision 0001)"},
	{"pkg/wire", []string{"pkg/iana"}, "bytes know no cryptography and no policy"},
	{"pkg/*", nil, "leaves can be used, read and tested by themselves"},
	{"testing/*", []string{"*", "testing/*"}, "test benches may drive everything"},
}

// library says which packages wrap a third-party module. The longest prefix counts.
type library struct {
	path   string
	only   []string
	reason string
}

// testOnly in place of packages: the library may be imported by test files and by testing.
const testOnly = "tests"

var libraries = []library{
	{"filippo.io/bigmod", []string{"pkg/suite"}, "modular exponentiation in constant time is part of the algorithms"},
	{"github.com/cloudflare/circl", []string{"pkg/suite"}, "algorithms beyond the standard library are wrapped with the others"},
	{"golang.org/x/crypto", []string{"pkg/suite"}, "algorithms beyond the standard library are wrapped with the others"},
	{"golang.org/x/sys", []string{"transport/*", "kernel/*", "pkg/ctl", "cmd/ikegod"}, "system calls belong to sockets, datapaths, the control socket's peer credentials, and the daemon's own process"},
	{"golang.zx2c4.com/wireguard/tun", []string{"kernel/userspace"}, "the TUN is behind our own small interface"},
	{"github.com/gaissmai/bart", []string{"kernel/userspace"}, "prefix lookup belongs to the datapath"},
	{"github.com/vishvananda/netlink", []string{"kernel/*"}, "netlink is Linux, and Linux is kernel"},
	{"github.com/vishvananda/netns", []string{testOnly}, "namespaces are made by test benches alone"},
	{"github.com/google/nftables", []string{"kernel/*"}, "nft tables are Linux, and Linux is kernel"},
	{"github.com/mdlayher/netlink", []string{"kernel/*"}, "netlink is Linux, and Linux is kernel"},
	{"github.com/spf13/cobra", []string{"cmd/ikegod", "cmd/ikectl"}, "command lines are for commands"},
	{"github.com/spf13/pflag", []string{"cmd/ikegod", "cmd/ikectl"}, "command lines are for commands"},
	{"github.com/spf13/viper", []string{"cmd/ikegod"}, "settings become typed values at the door"},
	{"github.com/go-viper/mapstructure/v2", []string{"cmd/ikegod"}, "settings become typed values at the door"},
	{"go.uber.org/zap", []string{"cmd/ikegod"}, "everything below tells by events; the daemon alone writes the log"},
	{"github.com/prometheus/client_golang", []string{"cmd/ikegod"}, "everything below counts; the daemon alone publishes"},
	{"github.com/google/go-cmp", []string{testOnly}, "it compares values in tests"},
	{"github.com/rogpeppe/go-internal", []string{testOnly}, "testscript runs testcase directories"},
}

// ban forbids packages of the standard library to ours; a path bans what is below it too.
type ban struct {
	pkgs   string
	paths  []string
	reason string
}

var bans = []ban{
	{"ike/machine", []string{"os", "sync", "context", "log", "math/rand", "crypto/rand", "runtime", "syscall", "unsafe"}, "the machine takes the time, the randomness and its input as arguments, and one goroutine owns it"},
	{"pkg/wire", []string{"os", "crypto", "sync", "time"}, "bytes know no cryptography, no time and no environment"},
	{"pkg/esp", []string{"os", "time"}, "ESP is seal and open, without I/O"},
	{"ike/policy", []string{"os", "sync"}, "policy is immutable values"},
	{"transport/ladder", []string{"os", "sync", "context"}, "which rung comes next is a pure decision (decision 0001)"},
}

// netBans are packages that may hold addresses (net/netip) but nothing else of net.
var netBans = []ban{
	{"ike/*", []string{"net"}, "decisions about IKE cannot reach a socket; addresses are net/netip"},
	{"pkg/wire", []string{"net"}, "no I/O; addresses are net/netip"},
	{"pkg/ts", []string{"net"}, "no I/O; addresses are net/netip"},
	{"pkg/ident", []string{"net"}, "no I/O; addresses are net/netip"},
	{"pkg/suite", []string{"net"}, "no I/O"},
	{"pkg/esp", []string{"net"}, "no I/O"},
	{"transport/ladder", []string{"net"}, "which rung comes next is a pure decision (decision 0001)"},
}

// clockBan are the identifiers of package time that read the clock or wait for it.
var clockBan = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// pure are the packages whose non-test files neither read the clock nor start goroutines.
var pure = []string{"ike/machine", "transport/ladder"}

// maxLines is where a file that is not a test is split.
const maxLines = 600
