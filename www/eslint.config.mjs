import js from "@eslint/js";
import globals from "globals";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/", "generated/", "node_modules/", "sample/"] },
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Numbers are what the statistics are made of; naming each conversion would only add noise.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // `_` marks what a signature imposes.
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
    },
  },
  {
    files: ["**/*.mjs"],
    languageOptions: { globals: { ...globals.node } },
    rules: { "no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }] },
  },
  {
    // Browser tests hold functions that run inside the page; demo scripts run nowhere else.
    files: [
      "tests/**/*.mjs",
      "tests-signal/**/*.mjs",
      "origin/viewers.mjs",
      "demo/**/*.mjs",
      "demo/**/*.js",
      "bench/**/*.mjs",
    ],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
);
