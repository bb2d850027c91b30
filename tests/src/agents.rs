//! Commands that are used with more than one mediator.

/// The first line of scripts whose clients do not use a proxy.
pub const NO_PROXY: &str =
    "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy\n";

/// Opens this many tunnels to `allowed.test`, prints their number, and closes all of them at once.
pub fn tunnels(count: usize) -> String {
    format!(
        "{NO_PROXY}python3 - <<'PROGRAM'\n\
         import asyncio, ssl, os\n\
         trust = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])\n\
         async def one():\n\
         \x20   return await asyncio.open_connection('allowed.test', 443, ssl=trust)\n\
         async def main():\n\
         \x20   held = []\n\
         \x20   for _ in range({count} // 20):\n\
         \x20       held += await asyncio.gather(*(one() for _ in range(20)))\n\
         \x20   print(len(held), flush=True)\n\
         \x20   os._exit(0)\n\
         asyncio.run(main())\n\
         PROGRAM\n"
    )
}

/// Sends this many different requests to `allowed.test`, and prints the number of answers by status.
pub fn requests(count: usize) -> String {
    format!(
        "{NO_PROXY}for i in $(seq {count}); do echo url = http://allowed.test/?$i; echo output = /dev/null; done > urls\n\
         curl -sS -Z --parallel-max 8 -w '%{{http_code}}\\n' -K urls | sort | uniq -c | tr -s ' '\n"
    )
}

/// Requests `name` twice, and prints both statuses.
pub fn twice(name: &str) -> String {
    let call = format!("curl -sS -m 20 -o /dev/null -w '%{{http_code}}\\n' http://{name}/\n");
    format!("{NO_PROXY}{call}{call}")
}
