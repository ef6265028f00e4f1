package probe

// feature says of each Feature what people need to know who do not have it.
type feature struct {
	name    string
	option  string // of the kernel's configuration
	option6 string // a second one that it needs
	module  string // that holds it; empty: it is part of another
	rare    bool   // most kernels do without
	without string // what its lack means
}

var features = [NumFeatures]feature{
	XFRM:       {"XFRM", "CONFIG_XFRM_USER", "", "xfrm_user", false, "the kernel's IPsec cannot be configured"},
	ESP4:       {"ESP", "CONFIG_INET_ESP", "", "esp4", false, "the kernel cannot carry ESP between IPv4 addresses"},
	ESP6:       {"ESP over IPv6", "CONFIG_INET6_ESP", "", "esp6", false, "the kernel cannot carry ESP between IPv6 addresses"},
	UDPEncap:   {"ESP in UDP", "CONFIG_XFRM", "", "", false, "the kernel cannot carry ESP through a NAT"},
	TCPEncap:   {"ESP in TCP", "CONFIG_INET_ESPINTCP", "", "", true, "the kernel cannot carry ESP in TCP (espintcp)"},
	TCPEncap6:  {"ESP in TCP over IPv6", "CONFIG_INET6_ESPINTCP", "", "", true, "the kernel cannot carry ESP in TCP (espintcp) between IPv6 addresses"},
	ESN:        {"ESN", "CONFIG_XFRM", "", "", false, "the kernel has no extended sequence numbers"},
	Direction:  {"SA direction", "", "", "", true, "SAs of this kernel have no direction, which came with Linux 6.10"},
	Migrate:    {"migrate", "CONFIG_XFRM_MIGRATE", "", "", false, "SAs cannot get other addresses in place"},
	Interface:  {"xfrm interfaces", "CONFIG_XFRM_INTERFACE", "", "xfrm_interface", false, "ipsec-interface= is not possible in the kernel"},
	AESGCM:     {"AES_GCM_16", "CONFIG_CRYPTO_GCM", "CONFIG_CRYPTO_SEQIV", "gcm", false, "the kernel cannot do AES-GCM"},
	AESCCM:     {"AES_CCM_16", "CONFIG_CRYPTO_CCM", "CONFIG_CRYPTO_SEQIV", "ccm", false, "the kernel cannot do AES-CCM"},
	ChaCha20:   {"CHACHA20_POLY1305", "CONFIG_CRYPTO_CHACHA20POLY1305", "CONFIG_CRYPTO_SEQIV", "chacha20poly1305", false, "the kernel cannot do ChaCha20-Poly1305"},
	AESCBC:     {"AES_CBC", "CONFIG_CRYPTO_CBC", "CONFIG_CRYPTO_AUTHENC", "cbc", false, "the kernel cannot do AES-CBC"},
	SHA2_256:   {"HMAC_SHA2_256_128", "CONFIG_CRYPTO_SHA256", "CONFIG_CRYPTO_AUTHENC", "sha256_generic", false, "the kernel cannot do HMAC-SHA2-256"},
	SHA2_384:   {"HMAC_SHA2_384_192", "CONFIG_CRYPTO_SHA512", "CONFIG_CRYPTO_AUTHENC", "sha512_generic", false, "the kernel cannot do HMAC-SHA2-384"},
	SHA2_512:   {"HMAC_SHA2_512_256", "CONFIG_CRYPTO_SHA512", "CONFIG_CRYPTO_AUTHENC", "sha512_generic", false, "the kernel cannot do HMAC-SHA2-512"},
	SHA1:       {"HMAC_SHA1_96", "CONFIG_CRYPTO_SHA1", "CONFIG_CRYPTO_AUTHENC", "sha1_generic", false, "the kernel cannot do HMAC-SHA1"},
	TUN:        {"TUN", "CONFIG_TUN", "", "tun", false, "the userspace datapath has no interface to carry packets"},
	NFT:        {"nft", "CONFIG_NF_TABLES", "CONFIG_NF_TABLES_INET", "nf_tables", false, "clear packets that claim a protected source are not dropped"},
	NFTGuard:   {"nft fib and socket", "CONFIG_NFT_FIB_INET", "CONFIG_NFT_SOCKET", "nft_fib_inet", false, "clear packets that claim a protected source are not dropped"},
	NFTSecpath: {"nft secpath", "CONFIG_NF_TABLES", "", "", false, "packets that the kernel's ESP has decrypted cannot be told from clear ones"},
}
