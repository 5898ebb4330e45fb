// build.mjs [packages FOLDER]: the scripts the gateway serves, into dist; or the two packages, packed
// into FOLDER.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const at = (...parts) => join(here, ...parts);
const [what, folder] = process.argv.slice(2);

const common = {
  bundle: true,
  minify: true,
  target: "es2022",
  legalComments: "inline",
  absWorkingDir: here,
  metafile: true,
  logLevel: "warning",
};
/** The gateway serves JsSIP once, for all its scripts. */
const served = {
  ...common,
  format: "iife",
  alias: {
    jssip: at("jssip-global.js"),
    "@webtrunk/phone/resume": at("packages/phone/src/resume.ts"),
    "@webtrunk/phone/de": at("packages/phone/src/de.ts"),
    "@webtrunk/phone": at("packages/phone/src/index.ts"),
  },
};

/** What comes from npm and is in a script, which the bill of materials has to name. */
const { packages: locked } = JSON.parse(readFileSync(at("package-lock.json"), "utf8"));

async function build(options) {
  const { metafile } = await esbuild.build(options);
  for (const path of Object.keys(metafile.inputs)) {
    const [name] = /^node_modules\/(@[^/]+\/)?[^/]+/.exec(path) ?? [];
    if (name && (!locked[name] || locked[name].dev))
      throw new Error(`${path} is in a script, and is none of package.json's dependencies`);
  }
}

async function scripts() {
  await build({
    ...common,
    target: "es2020",
    entryPoints: ["jssip-entry.js"],
    format: "iife",
    globalName: "JsSIP",
    outfile: "dist/jssip.js",
  });
  await build({
    ...served,
    entryPoints: ["packages/button/src/served.ts"],
    outfile: "dist/call-button.js",
  });
  await build({
    ...common,
    entryPoints: ["packages/phone/src/resume.ts"],
    format: "esm",
    outfile: "dist/resume.js",
  });
  await build({
    ...served,
    entryPoints: ["page.ts", "page.css"],
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
    outdir: "dist",
    plugins: [{ name: "charts", setup: apart }],
  });
  await build({
    ...common,
    entryPoints: ["console/charts.ts"],
    format: "esm",
    outfile: "dist/charts.js",
  });
}

/** The page loads what draws charts when it first does. */
function apart({ onResolve }) {
  onResolve({ filter: /^\.\/charts$/ }, () => ({ path: "./charts.js", external: true }));
}

/** Compiles a package's modules one by one, so that bundlers can leave out what is not used. */
function compile(name, out, paths) {
  const config = at(`packages/${name}/tsconfig.build.json`);
  const options = {
    extends: "../tsconfig.json",
    compilerOptions: { rootDir: "src", outDir: join(out, name, "dist"), paths },
    include: ["src"],
    exclude: ["src/served.ts"],
  };
  writeFileSync(config, JSON.stringify(options));
  try {
    execFileSync(process.execPath, [at("node_modules/typescript/bin/tsc"), "-p", config], {
      stdio: "inherit",
    });
  } finally {
    rmSync(config);
  }
}

async function packages(out) {
  rmSync(out, { recursive: true, force: true });
  for (const name of ["phone", "button"]) {
    mkdirSync(join(out, name), { recursive: true });
    for (const file of ["package.json", "README.md"])
      cpSync(at("packages", name, file), join(out, name, file));
    for (const file of ["LICENSE-MIT", "LICENSE-APACHE"])
      cpSync(at("../..", file), join(out, name, file));
  }
  compile("phone", out, {});
  compile("button", out, {
    "@webtrunk/phone": [join(out, "phone/dist/index.d.ts")],
    "@webtrunk/phone/de": [join(out, "phone/dist/de.d.ts")],
    "@webtrunk/phone/resume": [join(out, "phone/dist/resume.d.ts")],
  });
  await build({
    ...common,
    entryPoints: ["packages/phone/src/index.ts"],
    format: "esm",
    outfile: join(out, "phone/dist/webtrunk-phone.js"),
  });
  const quiet = ["--silent", "--pack-destination", out];
  for (const name of ["phone", "button"])
    execFileSync("npm", ["pack", ...quiet, join(out, name)], { cwd: out });
}

await (what === "packages" ? packages(resolve(folder)) : scripts());
